//! Whether another member offers the same: somebody answers at its door.

use std::collections::BTreeMap;
use std::time::Duration;

use ebb_model::{Others, Span};
use futures_util::future::join_all;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Knocks at all of them at once. `services` are those to be told of, whether others are configured for them or not.
pub async fn others(services: &[String], configured: &BTreeMap<String, Vec<String>>, within: Span) -> Vec<Others> {
    let of = services.iter().map(|service| async move {
        let members = configured.get(service).map(Vec::as_slice).unwrap_or_default();
        let members = members.iter().map(|at| async move { (at.clone(), met(at, within.into()).await) });
        Others { service: service.clone(), members: join_all(members).await }
    });
    join_all(of).await
}

async fn met(at: &str, within: Duration) -> Result<(), String> {
    match timeout(within, TcpStream::connect(at)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Err("refused".to_owned()),
        Ok(Err(error)) => Err(format!("not reached: {error}")),
        Err(_) => Err(format!("silent for {}", ebb_model::duration(within.into()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_listens_and_who_does_not() {
        let open = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let shut = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = |listener: &std::net::TcpListener| listener.local_addr().unwrap().to_string();
        let (open_at, shut_at) = (at(&open), at(&shut));
        drop(shut);
        let configured = BTreeMap::from([
            ("web".to_owned(), vec![shut_at.clone(), open_at.clone(), "no-port".to_owned()]),
            ("other".to_owned(), vec![open_at.clone()]),
        ]);
        let seen = others(&["web".to_owned(), "ssh".to_owned()], &configured, Span::seconds(30)).await;
        assert_eq!(seen.len(), 2, "only those that are asked for");
        assert_eq!(seen[0].members[..2], [(shut_at, Err("refused".to_owned())), (open_at, Ok(()))]);
        assert!(seen[0].members[2].1.as_ref().is_err_and(|why| why.starts_with("not reached")));
        assert_eq!((seen[1].service.as_str(), seen[1].members.len()), ("ssh", 0));
    }
}
