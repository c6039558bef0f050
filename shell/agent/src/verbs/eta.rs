//! `ebb eta`.

use std::sync::Arc;

use ebb_decide::eta::{Estimator, NEEDED};
use ebb_link::Reply;
use ebb_model::{Ages, Door, Eta, Lifetimes, Now, Service, Span, Wall, Why};
use ebb_wire::v1::{self, BestHour, EtaRequest, Forecast, Frame};
use jiff::Timestamp;

use crate::look;
use crate::observe::{self, Book};
use crate::recorder::hour_of_week;
use crate::world::{World, unread};

const HOUR: Span = Span::seconds(3600);
/// Hours from which the best is chosen.
const HOURS: u64 = 24;

pub(crate) async fn answer(world: &Arc<World>, request: EtaRequest, reply: &Reply) -> Result<(), Why> {
    let around = look::around(world).await?;
    let service = around.one(&request.service)?.clone();
    if !is_learnt(&service) {
        let what = format!("{} has no TCP door, and how long UDP flows live is not learnt", service.name);
        return Err(Why::Unsupported { what, help: format!("`ebb sessions {}` shows who is there", service.name) });
    }
    let book = Book::of(&around.services);
    let asked = Asked { at: request.at, deadline: request.deadline_seconds.map(Span::seconds), best: true };
    let eta = of(world, &service, &book, &asked).await?;
    reply.send(Frame::Eta(eta)).await;
    Ok(())
}

/// For a plan of a drain that would begin now; none if that cannot be said.
pub(crate) async fn of_plan(
    world: &Arc<World>,
    service: &Service,
    book: &Book,
    deadline: Option<Span>,
) -> Option<v1::Eta> {
    let asked = Asked { at: None, deadline, best: false };
    if is_learnt(service) { of(world, service, book, &asked).await.ok() } else { None }
}

/// How long UDP flows live is not learnt: they are only known where a gate learns them.
fn is_learnt(service: &Service) -> bool {
    service.doors.iter().any(Door::is_tcp)
}

/// What is asked.
struct Asked {
    at: Option<Timestamp>,
    deadline: Option<Span>,
    /// Look for the best hour too.
    best: bool,
}

async fn of(world: &Arc<World>, service: &Service, book: &Book, asked: &Asked) -> Result<v1::Eta, Why> {
    let now = world.now();
    let (lifetimes, ages) = known(world, service, book, now).await?;
    let mut eta = v1::Eta {
        service: service.name.to_string(),
        from: asked.at.unwrap_or_else(|| timestamp(now.wall)),
        sessions: None,
        usual: asked.at.is_some(),
        recorded: lifetimes.recorded().round() as u64,
        needed: NEEDED,
        forecast: None,
        deadline_seconds: asked.deadline.map(|deadline| deadline.0 / 1000),
        best: None,
    };
    let present = match asked.at {
        None => Some(ages.count()),
        Some(at) => lifetimes.hours[hour_of_week(wall(at))].usual(),
    };
    eta.sessions = present.map(|count| count.round() as u64);
    let Ok(estimator) = Estimator::new(&lifetimes) else { return Ok(eta) };
    let there = match asked.at {
        None => Some(ages),
        Some(at) => estimator.usual(hour_of_week(wall(at))),
    };
    eta.forecast = there.map(|ages| forecast(&estimator.eta(&ages, asked.deadline)));
    eta.best = if asked.best { best(&estimator, now) } else { None };
    Ok(eta)
}

/// What is known of the lifetimes, and how old all are that are there now. A resident agent has followed them; else their
/// ages are what the kernel tells.
async fn known(world: &Arc<World>, service: &Service, book: &Book, now: Now) -> Result<(Lifetimes, Ages), Why> {
    let (book, name) = (book.clone(), service.name.clone());
    let told = tokio::task::spawn_blocking(move || {
        let mut ages = Ages::default();
        observe::lives(&book, &[name].into(), &mut |_, _, age| ages.add(age)).map(|()| ages)
    });
    let told = told.await.map_err(|error| Why::Unread { what: "the sessions".into(), cause: error.to_string() })??;
    if let Some((lifetimes, ages)) = world.recorder.known(&service.name, now) {
        let ages = if ages.count() > 0.0 { ages.standing_for(told.count()) } else { told };
        return Ok((lifetimes, ages));
    }
    let kept = world.store().lifetimes(&service.name).map_err(|error| unread(&error))?;
    let mut lifetimes = kept.map_or_else(|| Lifetimes::new(now.wall), |kept| kept.lifetimes);
    lifetimes.fade(now.wall);
    Ok((lifetimes, told))
}

/// The hour of the next day at which the last one would be gone first.
fn best(estimator: &Estimator<'_>, now: Now) -> Option<BestHour> {
    let first = now.wall.0 - now.wall.0.rem_euclid(HOUR.0.cast_signed());
    let hours = (1..=HOURS).filter_map(|hour| {
        let at = Wall(first) + Span(HOUR.0 * hour);
        let ages = estimator.usual(hour_of_week(Now { wall: at, ..now }))?;
        Some((at, ages.count(), estimator.eta(&ages, None)))
    });
    let (at, count, eta) = hours.min_by_key(|(_, count, eta)| (eta.last, count.round() as u64))?;
    Some(BestHour {
        at: timestamp(at),
        sessions: count.round() as u64,
        most_seconds: eta.most.as_seconds(),
        last_to_seconds: eta.band.1.as_seconds(),
    })
}

/// As sent.
pub(crate) fn forecast(eta: &Eta) -> Forecast {
    Forecast {
        half_seconds: eta.half.as_seconds(),
        most_seconds: eta.most.as_seconds(),
        nearly_all_seconds: eta.nearly_all.as_seconds(),
        last_seconds: eta.last.as_seconds(),
        last_from_seconds: eta.band.0.as_seconds(),
        last_to_seconds: eta.band.1.as_seconds(),
        left_at_deadline: eta.left_at_deadline,
        beyond: eta.beyond.round() as u64,
    }
}

fn timestamp(at: Wall) -> Timestamp {
    Timestamp::from_millisecond(at.0).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn wall(at: Timestamp) -> Now {
    Now { wall: Wall(at.as_millisecond()), ..Now::default() }
}
