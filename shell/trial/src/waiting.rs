//! How the stage waits: never longer than a trial may take, and never for nobody.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::Error;
use crate::error::started;
use crate::place;

/// How long a trial may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// The stage ends so much earlier, so that it can say why itself.
const MARGIN: Duration = Duration::from_secs(4);
/// Between two looks; every wait here is one of a person who watches.
const LOOK: Duration = Duration::from_millis(20);
/// So long the stage may need to end by itself when nobody is left.
const GRACE: Duration = Duration::from_secs(3);

/// Patience with bounds.
#[derive(Debug, Clone)]
pub(crate) struct Patience {
    began: Instant,
    left: Arc<AtomicBool>,
}

impl Patience {
    /// Starts to count, and to watch the leash: standard input, whose end means that the first process is gone. Then whatever
    /// still waits gets an error, and soon the process ends, even if it is stuck.
    pub(crate) fn begin(dir: PathBuf) -> Result<Self, Error> {
        let left = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&left);
        let watch = move || {
            // Whatever comes, also an error: nobody is there any more.
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            seen.store(true, Ordering::Relaxed);
            std::thread::sleep(GRACE);
            place::remove(&dir);
            std::process::exit(1);
        };
        std::thread::Builder::new().name("leash".to_owned()).spawn(watch).map_err(started("start a thread"))?;
        Ok(Self { began: Instant::now(), left })
    }

    /// Since the trial began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Waits until a look shows something, at most for `most`; none if that time passed.
    pub(crate) fn wait<T>(
        &self,
        doing: &'static str,
        most: Duration,
        mut look: impl FnMut() -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        let began = Instant::now();
        loop {
            if let Some(seen) = look()? {
                return Ok(Some(seen));
            }
            if self.left.load(Ordering::Relaxed) {
                return Err(Error::Left { doing });
            }
            if self.elapsed() > LIMIT - MARGIN {
                return Err(Error::TooLong { doing, seconds: LIMIT.as_secs() });
            }
            if began.elapsed() > most {
                return Ok(None);
            }
            std::thread::sleep(LOOK);
        }
    }
}
