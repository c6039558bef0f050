//! What logind and timedated say, over D-Bus: a call or two on a connection of its own.

use std::collections::HashMap;

use ebb_model::{Login, Span};
use futures_util::future::join_all;
use zbus::{Connection, OwnedObjectPath, OwnedVariant, Variant, conn};

const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const LOGIND: &str = "org.freedesktop.login1";
const SESSION: &str = "org.freedesktop.login1.Session";
const TIMED: &str = "org.freedesktop.timedate1";

/// Whether the clock is synchronised, as timedated has it from the kernel: for who may not ask that itself.
///
/// # Errors
/// Nobody answers in time, in a sentence.
pub async fn clock_is_synchronised(within: Span) -> Result<bool, String> {
    let asked = async {
        let bus = conn::Builder::system().build().await?;
        let body = (TIMED, "NTPSynchronized");
        let reply = bus.call_method(Some(TIMED), "/org/freedesktop/timedate1", Some(PROPERTIES), "Get", &body).await?;
        let value = reply.body().deserialize::<OwnedVariant>()?;
        Ok::<_, zbus::Error>(matches!(&*value, Variant::Bool(true)))
    };
    let answer = tokio::time::timeout(within.into(), asked).await;
    answer.map_err(|_| "timedated does not answer".to_owned())?.map_err(|error| format!("timedated: {error}"))
}

/// The sessions of people that logind knows: at a terminal, at a seat, or from another machine.
pub(crate) async fn sessions() -> zbus::Result<Vec<Login>> {
    type Row = (String, u32, String, String, OwnedObjectPath);
    let bus = conn::Builder::system().build().await?;
    let manager = "org.freedesktop.login1.Manager";
    let reply = bus.call_method(Some(LOGIND), "/org/freedesktop/login1", Some(manager), "ListSessions", &()).await?;
    let rows = reply.body().deserialize::<Vec<Row>>()?;
    let all = join_all(rows.iter().map(|(_, _, user, _, path)| session(&bus, user, path))).await;
    Ok(all.into_iter().flatten().collect())
}

/// None for one that has ended meanwhile, and for one that is nobody's: a greeter, a job of cron.
async fn session(bus: &Connection, user: &str, path: &OwnedObjectPath) -> Option<Login> {
    let reply = bus.call_method(Some(LOGIND), path, Some(PROPERTIES), "GetAll", &SESSION).await.ok()?;
    let all = reply.body().deserialize::<HashMap<String, OwnedVariant>>().ok()?;
    let text = |key: &str| match all.get(key).map(|value| &**value) {
        Some(Variant::Str(text)) => text.as_str().to_owned(),
        _ => String::new(),
    };
    let remote = matches!(all.get("Remote").map(|value| &**value), Some(Variant::Bool(true)));
    let leader = match all.get("Leader").map(|value| &**value) {
        Some(Variant::U32(pid)) => *pid,
        _ => 0,
    };
    let places = [text("TTY"), text("Display")];
    let terminal = places.into_iter().find(|place| !place.is_empty());
    let lives = text("State") != "closing" && text("Class").starts_with("user");
    let from = Some(text("RemoteHost")).filter(|from| !from.is_empty());
    let terminal = match terminal {
        Some(terminal) => terminal,
        None if remote => "no terminal".to_owned(),
        None => return None,
    };
    lives.then(|| Login { user: user.to_owned(), terminal, from, leader })
}
