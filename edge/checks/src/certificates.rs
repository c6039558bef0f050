//! Until when certificates are valid.

use std::path::Path;

use ebb_model::Wall;
use x509_parser::pem::Pem;

/// More than this is no certificate file.
const MOST: u64 = 16 * 1024 * 1024;

/// Each file that fits, with the end of its own certificate: the first of a chain.
pub(crate) async fn of(files: &[String]) -> Result<Vec<(String, Result<Wall, String>)>, String> {
    let files = files.to_vec();
    let read = tokio::task::spawn_blocking(move || {
        let mut found = Vec::new();
        for name in &files {
            let fitting = super::files::fitting(name)?;
            if fitting.is_empty() {
                // One that was there yesterday must not go unnoticed.
                found.push((name.clone(), Err("no file fits".to_owned())));
            }
            found.extend(fitting.iter().map(|path| (path.display().to_string(), until(path))));
        }
        Ok(found)
    });
    read.await.map_err(|error| error.to_string())?
}

fn until(path: &Path) -> Result<Wall, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MOST {
        return Err("it is too long for certificates".to_owned());
    }
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    for block in Pem::iter_from_buffer(&text) {
        let block = block.map_err(|error| format!("it is not PEM: {error}"))?;
        // Keys and parameters may stand before it.
        if matches!(block.label.as_str(), "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE") {
            let certificate = block.parse_x509().map_err(|error| format!("its certificate makes no sense: {error}"))?;
            return Ok(Wall(certificate.validity().not_after.timestamp().saturating_mul(1000)));
        }
    }
    Err("no certificate is in it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    struct Dir(std::path::PathBuf);

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// `openssl` makes them; the answer is what it says itself of their end.
    fn certificate(dir: &Path, name: &str, days: &str) -> i64 {
        let (key, pem) = (dir.join(format!("{name}.key")), dir.join(format!("{name}.pem")));
        let openssl = |words: &[&str]| {
            let made = Command::new("openssl").args(words).current_dir(dir).output().unwrap();
            assert!(made.status.success(), "{words:?} {made:?}");
        };
        let (key, pem) = (key.to_str().unwrap(), pem.to_str().unwrap());
        openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key]);
        openssl(&["req", "-new", "-key", key, "-subj", "/CN=x", "-out", "request"]);
        // Unlike `req`, this makes one that is over at once too.
        openssl(&["x509", "-req", "-in", "request", "-signkey", key, "-days", days, "-out", pem]);
        let said = Command::new("openssl").args(["x509", "-noout", "-enddate", "-in"]).arg(pem).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let said = said.trim().strip_prefix("notAfter=").unwrap();
        let date = Command::new("date").args(["-u", "+%s", "-d", said]).output().unwrap();
        String::from_utf8(date.stdout).unwrap().trim().parse::<i64>().unwrap() * 1000
    }

    #[tokio::test]
    async fn ends_are_those_that_openssl_says() {
        let dir = Dir(std::env::temp_dir().join(format!("ebb-certificates-{}", std::process::id())));
        std::fs::create_dir_all(&dir.0).unwrap();
        let (a, b) = (certificate(&dir.0, "a", "30"), certificate(&dir.0, "b", "0"));
        assert!(a > b);
        let text = |name: &str| std::fs::read_to_string(dir.0.join(name)).unwrap();
        // A key, then the server's own, then one that ends sooner: the chain is another's.
        std::fs::write(dir.0.join("chain.crt"), text("a.key") + &text("a.pem") + &text("b.pem")).unwrap();
        std::fs::write(dir.0.join("key.crt"), text("a.key")).unwrap();
        std::fs::write(dir.0.join("garbage.crt"), [0xff, 0, 1, 2]).unwrap();
        std::fs::write(dir.0.join("broken.crt"), text("a.pem").replace('M', "N")).unwrap();
        let file = |name: &str| dir.0.join(name).display().to_string();
        let seen = of(&[file("*.pem"), file("chain.crt")]).await.unwrap();
        assert_eq!(
            seen,
            [(file("a.pem"), Ok(Wall(a))), (file("b.pem"), Ok(Wall(b))), (file("chain.crt"), Ok(Wall(a)))]
        );
        let bad = ["key.crt", "garbage.crt", "broken.crt", "none.crt", "*.none"].map(file);
        let seen = of(&bad).await.unwrap();
        assert!(seen.iter().all(|(_, until)| until.is_err()) && seen.len() == 5, "{seen:?}");
        assert_eq!(seen[4].1, Err("no file fits".to_owned()));
        assert!(of(&[file("no/dir/*.pem")]).await.is_err());
    }
}
