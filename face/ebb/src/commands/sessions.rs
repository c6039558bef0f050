//! `ebb sessions`

use std::time::Duration;

use clap::{Args, ValueEnum};
use ebb_link::Client;
use ebb_wire::v1::{Request, SessionsRequest, Sort};

use super::ask::look;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::render::sessions::Sessions;
use crate::screen::Screen;

/// Between two looks of `--watch`.
const AGAIN: Duration = Duration::from_secs(1);
/// Processes are looked up for lists that a person may read: each costs a look at every descriptor of the service.
const LOOK_UP: usize = 2000;
/// Rows of a page that are no session: headings, the summary (two if it wraps), and the cursor.
const FRAME_ROWS: usize = 4;

/// How it is typed.
pub const EXAMPLES: &str = "\
EXAMPLES
  ebb sessions nginx
      all of them, the oldest first
  ebb sessions nginx --sort idle --limit 20
      the twenty that have been idle for longest
  ebb sessions postgresql --watch
      looked at again each second
  ebb sessions nginx --json | jq -r 'select(.type == \"session\").peer'
      made for 100,000 as well as for three

AGE is what the kernel can bound: `≥ 41 min` means at least so old.";

/// `ebb sessions`
#[derive(Debug, Args)]
pub struct SessionsArgs {
    /// Of which service
    service: String,
    /// In which order
    #[arg(long, value_enum, value_name = "BY", default_value = "age")]
    sort: Order,
    /// Only the first so many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Look again each second, until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Do not look up which process holds each
    #[arg(long)]
    no_processes: bool,
    /// Look up the names of clients (asks the resolver)
    #[arg(long)]
    names: bool,
}

/// An order of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Order {
    /// Oldest first
    Age,
    /// Longest idle first
    Idle,
    /// Most bytes first
    Bytes,
    /// By client address
    Peer,
}

impl From<Order> for Sort {
    fn from(order: Order) -> Self {
        match order {
            Order::Age => Self::Age,
            Order::Idle => Self::Idle,
            Order::Bytes => Self::Bytes,
            Order::Peer => Self::Peer,
        }
    }
}

impl SessionsArgs {
    /// For people, on a page of so many rows; or for programs, who get many sessions fast.
    fn request(&self, rows: Option<usize>, json: bool) -> Request {
        let page = rows.map(|rows| rows.saturating_sub(FRAME_ROWS).max(1));
        let few = self.limit.is_some_and(|limit| limit <= LOOK_UP);
        Request::Sessions(SessionsRequest {
            service: self.service.clone(),
            sort: self.sort.into(),
            limit: self.limit.into_iter().chain(page).min(),
            processes: !self.no_processes && (few || !json),
            names: self.names,
        })
    }
}

/// Asks and shows, once or again and again.
///
/// # Errors
/// [`Problem`]
pub async fn run(args: &SessionsArgs, client: &Client, screen: &mut Screen) -> Result<Exit, Problem> {
    if !args.watch {
        return look(client, args.request(None, screen.is_json()), &mut Sessions::default(), screen).await;
    }
    loop {
        let rows = screen.page();
        let exit = look(client, args.request(rows, screen.is_json()), &mut Sessions::default(), screen).await?;
        if exit != Exit::Done {
            return Ok(exit);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command, Verb};
    use clap::Parser;

    #[test]
    fn a_page_is_no_longer_than_the_terminal() {
        let parse = |line: &str| match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Command::Verb(Verb::Sessions(args)) => args,
            other => panic!("{other:?}"),
        };
        let limit = |line, rows| match parse(line).request(rows, false) {
            Request::Sessions(request) => request.limit,
            other => panic!("{other:?}"),
        };
        assert_eq!(limit("ebb sessions nginx", None), None);
        assert_eq!(limit("ebb sessions nginx --limit 5", None), Some(5));
        assert_eq!(limit("ebb sessions nginx", Some(24)), Some(20));
        assert_eq!(limit("ebb sessions nginx --limit 5", Some(24)), Some(5));
        assert_eq!(limit("ebb sessions nginx", Some(2)), Some(1));
        let processes = |line, json| match parse(line).request(None, json) {
            Request::Sessions(request) => request.processes,
            other => panic!("{other:?}"),
        };
        assert!(processes("ebb sessions nginx", false));
        assert!(!processes("ebb sessions nginx", true), "100,000 lines of JSON do not wait for /proc");
        assert!(processes("ebb sessions nginx --limit 10", true));
        assert!(!processes("ebb sessions nginx --no-processes", false));
    }
}
