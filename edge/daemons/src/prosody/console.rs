//! Prosody's admin socket, as `prosodyctl shell` speaks to it: a stream of XML with a line of Lua in each question, and one
//! text in each answer.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::PROSODY;
use crate::{Error, MOST_BYTES, call, unix};

const OPENING: &str = "<?xml version='1.0'?><stream:stream xmlns:stream='http://etherx.jabber.org/streams' \
                       xmlns='xmpp:prosody.im/admin' version='1.0'>";
const BEGINS: &[u8] = b"<repl-result";
const ENDS: &[u8] = b"</repl-result>";

/// A connection to the console.
#[derive(Debug)]
pub(super) struct Console {
    stream: UnixStream,
    path: String,
    /// What was read, and belongs to no answer so far.
    read: Vec<u8>,
    /// So many bytes may still be read.
    left: usize,
}

impl Console {
    /// Opens it. Prosody says nothing before it is asked.
    pub(super) async fn open(path: &str) -> Result<Self, Error> {
        let (stream, _) = unix::connect(PROSODY, path).await?;
        let mut console = Self { stream, path: path.to_owned(), read: Vec::new(), left: MOST_BYTES };
        console.say(OPENING).await?;
        Ok(console)
    }

    async fn say(&mut self, text: &str) -> Result<(), Error> {
        self.stream.write_all(text.as_bytes()).await.map_err(|error| self.lost(&error))
    }

    fn lost(&self, cause: &dyn std::fmt::Display) -> Error {
        Error::NotReached { daemon: PROSODY, at: self.path.clone(), cause: call::short(&cause.to_string()) }
    }

    /// Has it run some Lua, with all rights, and answers with the text that it returns beside `true`.
    ///
    /// # Errors
    /// [`Error::Refused`] with what Lua says of a fault; [`Error`].
    pub(super) async fn ask(&mut self, lua: &str) -> Result<String, Error> {
        self.say(&format!("<repl-input>&gt;{}</repl-input>", escaped(lua))).await?;
        let mut from = 0;
        loop {
            if let Some(answer) = answer(&mut self.read, &mut from)? {
                return answer;
            }
            if self.left == 0 {
                return Err(not_understood(&format!("more than {MOST_BYTES} bytes")));
            }
            let before = self.read.len();
            let more = (&mut self.stream).take(self.left as u64).read_buf(&mut self.read).await;
            if more.map_err(|error| self.lost(&error))? == 0 {
                return Err(self.lost(&"it closed the connection"));
            }
            self.left -= self.read.len() - before;
        }
    }
}

/// Takes the next whole answer off what was read; none if more must be read. What belongs to no answer is dropped. `from`
/// is how far its end was looked for.
fn answer(read: &mut Vec<u8>, from: &mut usize) -> Result<Option<Result<String, Error>>, Error> {
    if !read.starts_with(BEGINS) {
        let begin = seek(read, 0, BEGINS);
        // The last bytes may be half a word.
        read.drain(..begin.unwrap_or(read.len().saturating_sub(BEGINS.len())));
        *from = 0;
        if begin.is_none() {
            return Ok(None);
        }
    }
    let Some(inside) = seek(read, 0, b">").map(|at| at + 1) else { return Ok(None) };
    let tag = read.get(..inside).unwrap_or_default();
    if tag.ends_with(b"/>") {
        read.drain(..inside);
        return Ok(Some(Err(not_understood("an answer without a text"))));
    }
    let fault = seek(tag, 0, b"error").is_some();
    let Some(end) = seek(read, inside.max(*from), ENDS) else {
        *from = read.len().saturating_sub(ENDS.len());
        return Ok(None);
    };
    let text = plain(read.get(inside..end).unwrap_or_default())?;
    read.drain(..end + ENDS.len());
    *from = 0;
    Ok(Some(match text.strip_prefix("OK: ") {
        Some(text) if !fault => Ok(text.to_owned()),
        _ => Err(Error::Refused { daemon: PROSODY, what: call::short(&text) }),
    }))
}

/// Where these bytes are, at `from` or later.
fn seek(all: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    all.get(from..)?.windows(what.len()).position(|part| part == what).map(|at| from + at)
}

pub(super) fn not_understood(what: &str) -> Error {
    Error::NotUnderstood { daemon: PROSODY, what: call::short(what) }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Text of XML as it was meant: Prosody writes these five names only.
fn plain(text: &[u8]) -> Result<String, Error> {
    let text = String::from_utf8_lossy(text);
    if text.contains('<') {
        return Err(not_understood("an answer with more than a text in it"));
    }
    let mut parts = text.split('&');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(';').ok_or_else(|| not_understood("half a character's name"))?;
        plain.push(match name {
            "lt" => '<',
            "gt" => '>',
            "amp" => '&',
            "apos" => '\'',
            "quot" => '"',
            _ => return Err(not_understood(&format!("a character called {name}"))),
        });
        plain.push_str(rest);
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(bytes: &[u8], cut: usize) -> Vec<String> {
        let (mut read, mut from, mut said) = (Vec::new(), 0, Vec::new());
        for part in bytes.chunks(cut) {
            read.extend_from_slice(part);
            while let Some(one) = answer(&mut read, &mut from).unwrap() {
                said.push(one.unwrap_or_else(|error| error.to_string()));
            }
        }
        said
    }

    #[test]
    fn answers_are_the_same_however_they_arrive() {
        let told = b"<?xml version='1.0'?><stream:stream id=''><repl-output>x</repl-output><repl-result>OK: a&lt;&amp;&apos;\
            &quot;&gt;</repl-result> <repl-result type='error'>Sorry</repl-result><repl-result/><repl-result>Result: nil\
            </repl-result><repl-result>OK: </repl-result>";
        let wanted = ["a<&'\">", "prosody did not do it: Sorry"].map(str::to_owned);
        for cut in 1..told.len() + 1 {
            let said = all(told, cut);
            assert_eq!(&said[..2], &wanted, "{cut}");
            assert!(said[2].contains("without a text") && said[3].contains("Result: nil") && said[4].is_empty());
            assert_eq!(said.len(), 5);
        }
        assert_eq!(escaped("a<b>&c"), "a&lt;b&gt;&amp;c");
        for broken in ["<b/>", "&x;", "&lt"] {
            assert!(plain(broken.as_bytes()).is_err(), "{broken}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in ".{0,99}") {
            let mut told = [b"<repl-result>OK: ", &bytes[..], b"</repl-result>"].concat();
            let _ = answer(&mut told, &mut 0);
            prop_assert_eq!(plain(escaped(&text).as_bytes()).unwrap(), text);
        }
    }
}
