//! A key of TSIG, from a file as BIND has it. It is read when it is needed, and its secret is shown to nobody.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use domain::tsig::{Algorithm, Key, KeyName};

use crate::Error;
use crate::error::short;

/// No file of keys is longer.
const LONGEST: u64 = 64 * 1024;
const HELP: &str = "make one with `tsig-keygen NAME`, for us alone: chmod 600";

/// Reads the one key of a file.
pub(super) fn read(path: &Path) -> Result<Arc<Key>, Error> {
    let wrong = |what: String| Error::Settings {
        what: format!("the key file {}: {what}", short(&path.display().to_string())),
        help: HELP.to_owned(),
    };
    // To open something else could take for ever.
    let known = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    if !known.is_file() {
        return Err(wrong("it is no file".to_owned()));
    }
    let file = std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
    if known.permissions().mode() & 0o007 != 0 {
        return Err(wrong("everybody may read it".to_owned()));
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
    parse(&text).map(Arc::new).map_err(|what| wrong(what.to_owned()))
}

/// `key "NAME" { algorithm hmac-sha256; secret "BASE64"; };`, and comments. What is wrong is said without the words that
/// are there: one of them is the secret.
fn parse(text: &str) -> Result<Key, &'static str> {
    const SHAPE: &str = "it is not `key \"NAME\" { algorithm …; secret \"…\"; };`";
    let words = words(text);
    let mut words = words.iter().map(String::as_str);
    let (Some("key"), Some(name), Some("{")) = (words.next(), words.next(), words.next()) else { return Err(SHAPE) };
    let (mut algorithm, mut secret) = (None, None);
    loop {
        let word = words.next().ok_or(SHAPE)?;
        if word == "}" {
            break;
        }
        let value = words.next().ok_or(SHAPE)?;
        match word {
            "algorithm" => algorithm = Some(value),
            "secret" => secret = Some(value),
            _ => return Err(SHAPE),
        }
        if words.next() != Some(";") {
            return Err(SHAPE);
        }
    }
    if words.any(|word| word != ";") {
        return Err("it has more than one key: one for each file");
    }
    let name = KeyName::from_str(name).map_err(|_| "the key's name is no name of the DNS")?;
    let algorithm = algorithm.ok_or("it has no algorithm")?.to_ascii_lowercase();
    let algorithm =
        Algorithm::from_str(&algorithm).map_err(|_| "its algorithm must be hmac-sha256, -sha384, -sha512 or -sha1")?;
    let secret: Vec<u8> =
        domain::utils::base64::decode(secret.ok_or("it has no secret")?).map_err(|_| "its secret is no base64")?;
    if secret.is_empty() {
        return Err("its secret is empty");
    }
    Key::new(algorithm, &secret, name, None, None).map_err(|_| "the key cannot be used")
}

/// Words, quoted or not, and the signs between them.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut rest = text.chars().peekable();
    let mut end = |word: &mut String| {
        if !word.is_empty() {
            words.push(std::mem::take(word));
        }
    };
    while let Some(c) = rest.next() {
        match (c, rest.peek()) {
            ('#', _) | ('/', Some('/')) if word.is_empty() => rest.by_ref().take_while(|c| *c != '\n').for_each(drop),
            ('/', Some('*')) if word.is_empty() => {
                let mut last = ' ';
                rest.next();
                let inside = |c: &char| !(std::mem::replace(&mut last, *c) == '*' && *c == '/');
                rest.by_ref().take_while(inside).for_each(drop);
            }
            ('"', _) => {
                word.extend(rest.by_ref().take_while(|c| *c != '"'));
                end(&mut word);
            }
            ('{' | '}' | ';', _) => {
                end(&mut word);
                end(&mut c.to_string());
            }
            (c, _) if c.is_whitespace() => end(&mut word),
            (c, _) => word.push(c),
        }
    }
    end(&mut word);
    words
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;

    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "c2VjcmV0c2VjcmV0c2VjcmV0";

    #[test]
    fn a_file_as_bind_writes_it() {
        let plain = format!("key \"ebb\" {{\n\talgorithm hmac-sha256;\n\tsecret \"{SECRET}\";\n}};\n");
        let other =
            format!("# mine\n/* a ** key; }} */ key ebb.example.{{secret {SECRET};// x\nalgorithm HMAC-SHA512;}};");
        for (text, name, algorithm) in [(plain, "ebb", "hmac-sha256"), (other, "ebb.example", "hmac-sha512")] {
            let key = parse(&text).unwrap();
            assert_eq!((key.name().to_string(), key.algorithm().to_string()), (name.to_owned(), algorithm.to_owned()));
            assert!(!format!("{key:?}").contains(SECRET));
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret() {
        for text in [
            SECRET.to_owned(),
            format!("key ebb {{ secret \"{SECRET}\"; }};"),
            format!("key ebb {{ algorithm {SECRET}; secret \"{SECRET}\"; }};"),
            format!("key {SECRET} {{ algorithm hmac-sha256; secret \"{SECRET}!\"; }};"),
            format!("key ebb {{ algorithm hmac-sha256; secret {SECRET}"),
            format!("key a {{ algorithm hmac-sha256; secret {SECRET}; }}; key b {{ secret {SECRET}; }};"),
            "key ebb { algorithm hmac-sha256; secret \"\"; };".to_owned(),
        ] {
            let what = parse(&text).unwrap_err();
            assert!(!what.contains(SECRET), "{what}");
        }
    }

    #[test]
    fn a_file_that_everybody_reads_is_refused() {
        let path = std::env::temp_dir().join(format!("ebb-steer-key-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let text = format!("key ebb {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};");
        let write = |mode| {
            let _ = std::fs::remove_file(&path);
            let mut options = std::fs::OpenOptions::new();
            let file = options.write(true).create_new(true).mode(mode).open(&path).unwrap();
            std::io::Write::write_all(&mut &file, text.as_bytes()).unwrap();
            file.set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();
        };
        write(0o644);
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("everybody may read it") && !error.contains(SECRET), "{error}");
        write(0o600);
        assert!(read(&path).is_ok());
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(read(&path), Err(Error::Settings { .. })));
        assert!(matches!(read(Path::new("/dev/zero")), Err(Error::Settings { .. })));
    }

    proptest! {
        #[test]
        fn anything_is_survived(text in "\\PC{0,200}", cut in 0_usize..90) {
            let _ = parse(&text);
            let whole = format!("key \"ebb\" {{ /* {text} */ algorithm hmac-sha256; secret \"{SECRET}\"; }};");
            let _ = whole.get(..cut).map(parse);
        }
    }
}
