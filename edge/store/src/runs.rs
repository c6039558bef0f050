//! Runs of a maintenance: each with its plan and its journal, which is only ever added to.

use ebb_model::{Entry, Line, MaintenancePlan, Requester, Run, ServiceName, Span, Step, Wall, Who, Work};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

use crate::{Result, Store, StoreError, failed, format};

/// How many runs are kept.
const RUNS_KEPT: i64 = 100;

#[derive(Serialize, Deserialize)]
struct PlanV1 {
    requester: String,
    reason: String,
    by_uid: u32,
    by_name: String,
    layers: Vec<Vec<String>>,
    not: Vec<String>,
    for_ms: Option<u64>,
    reopen: bool,
    except: Vec<String>,
    #[serde(default)]
    delay_ms: u64,
    deadline_ms: Option<u64>,
    then: String,
    work: WorkV1,
    drill: bool,
    watch_ms: u64,
    override_guards: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WorkV1 {
    ByHand,
    Command(Vec<String>),
    Reboot,
}

fn plan_to(plan: &MaintenancePlan) -> String {
    format::json(&PlanV1 {
        requester: plan.requester.to_string(),
        reason: plan.reason.clone(),
        by_uid: plan.by.uid,
        by_name: plan.by.name.clone(),
        layers: plan.layers.iter().map(|layer| layer.iter().map(ToString::to_string).collect()).collect(),
        not: plan.not.iter().map(ToString::to_string).collect(),
        for_ms: plan.meant_for.map(|span| span.0),
        reopen: plan.reopen,
        except: plan.except.iter().map(ToString::to_string).collect(),
        delay_ms: plan.delay.0,
        deadline_ms: plan.deadline.map(|span| span.0),
        then: format::then_to(plan.then).to_owned(),
        work: match &plan.work {
            Work::ByHand => WorkV1::ByHand,
            Work::Command(command) => WorkV1::Command(command.clone()),
            Work::Reboot => WorkV1::Reboot,
        },
        drill: plan.drill,
        watch_ms: plan.watch.0,
        override_guards: plan.override_guards.clone(),
    })
}

fn plan_from(text: &str) -> std::result::Result<MaintenancePlan, String> {
    let plan: PlanV1 = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let name = |name: &String| ServiceName::new(name.clone()).map_err(|error| error.to_string());
    let names = |names: &Vec<String>| names.iter().map(name).collect::<std::result::Result<Vec<_>, _>>();
    Ok(MaintenancePlan {
        requester: Requester::new(plan.requester).map_err(|error| error.to_string())?,
        reason: plan.reason,
        by: Who { uid: plan.by_uid, name: plan.by_name },
        layers: plan.layers.iter().map(names).collect::<std::result::Result<_, _>>()?,
        not: names(&plan.not)?,
        meant_for: plan.for_ms.map(Span),
        reopen: plan.reopen,
        except: plan.except.iter().map(|range| range.parse()).collect::<std::result::Result<_, _>>()?,
        delay: Span(plan.delay_ms),
        deadline: plan.deadline_ms.map(Span),
        then: format::then_from(&plan.then)?,
        work: match plan.work {
            WorkV1::ByHand => Work::ByHand,
            WorkV1::Command(command) => Work::Command(command),
            WorkV1::Reboot => Work::Reboot,
        },
        drill: plan.drill,
        watch: Span(plan.watch_ms),
        override_guards: plan.override_guards,
    })
}

/// Kind, step and the word that goes with it.
fn entry_to(entry: &Entry) -> (&'static str, Option<String>, Option<String>) {
    let of = |step: &Step| Some(step.to_string());
    match entry {
        Entry::StartAsked => ("start_asked", None, None),
        Entry::FinishAsked { accept_worse } => ("finish_asked", None, accept_worse.clone()),
        Entry::Began(step) => ("began", of(step), None),
        Entry::Done(step) => ("done", of(step), None),
        Entry::Failed(step) => ("failed", of(step), None),
        Entry::Over => ("over", None, None),
    }
}

fn entry_from(kind: &str, step: Option<String>, word: Option<String>) -> std::result::Result<Entry, String> {
    let step = step.map(|step| step.parse::<Step>()).transpose()?;
    Ok(match (kind, step) {
        ("start_asked", None) => Entry::StartAsked,
        ("finish_asked", None) => Entry::FinishAsked { accept_worse: word },
        ("began", Some(step)) => Entry::Began(step),
        ("done", Some(step)) => Entry::Done(step),
        ("failed", Some(step)) => Entry::Failed(step),
        ("over", None) => Entry::Over,
        (other, _) => return Err(format!("unknown entry `{other}`")),
    })
}

impl Store {
    /// Writes down a run that begins, with the first line of its journal; the answer is its number.
    ///
    /// # Errors
    /// The file cannot be written; then nothing has changed.
    pub fn begin_run(&mut self, plan: &MaintenancePlan, first: &Line) -> Result<u64> {
        let what = "write a run";
        self.make()?;
        let txn = self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed(what))?;
        txn.execute("INSERT INTO runs (plan) VALUES (?1)", params![plan_to(plan)]).map_err(failed(what))?;
        let number = txn.last_insert_rowid();
        add(&txn, number, first).map_err(failed(what))?;
        for table in ["runs WHERE number", "journal WHERE run"] {
            txn.execute(&format!("DELETE FROM {table} <= ?1"), params![number - RUNS_KEPT]).map_err(failed(what))?;
        }
        txn.commit().map_err(failed(what))?;
        Ok(u64::try_from(number).unwrap_or(0))
    }

    /// Adds a line to the journal of a run.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add_line(&mut self, run: u64, line: &Line) -> Result<()> {
        self.make()?;
        let number = i64::try_from(run).unwrap_or(i64::MAX);
        add(&self.db, number, line).map(drop).map_err(failed("write to the journal"))
    }

    /// A run by its number; the newest if none is given. None where there is none.
    ///
    /// # Errors
    /// The file cannot be read, or a row makes no sense.
    pub fn run(&self, number: Option<u64>) -> Result<Option<Run>> {
        let what = "read a run";
        self.check_whole()?;
        if !has_runs(&self.db).map_err(failed(what))? {
            return Ok(None);
        }
        let number = number.map(|number| i64::try_from(number).unwrap_or(i64::MAX));
        let row: Option<(i64, String)> = self
            .db
            .query_row(
                "SELECT number, plan FROM runs WHERE ?1 IS NULL OR number = ?1 ORDER BY number DESC LIMIT 1",
                params![number],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()
            .map_err(failed(what))?;
        let Some((number, plan)) = row else { return Ok(None) };
        let corrupt = |cause| StoreError::Corrupt { what: "run", of: number.to_string(), cause };
        let plan = plan_from(&plan).map_err(corrupt)?;
        let mut statement = self
            .db
            .prepare("SELECT at_ms, boot_id, entry, step, word, text FROM journal WHERE run = ?1 ORDER BY sequence")
            .map_err(failed(what))?;
        let rows = statement
            .query_map(params![number], |row| {
                let entry: (String, Option<String>, Option<String>) = (row.get(2)?, row.get(3)?, row.get(4)?);
                Ok((Wall(row.get(0)?), row.get(1)?, entry, row.get(5)?))
            })
            .map_err(failed(what))?;
        let mut journal = Vec::new();
        for row in rows {
            let (at, boot_id, (kind, step, word), text) = row.map_err(failed(what))?;
            journal.push(Line { at, boot_id, entry: entry_from(&kind, step, word).map_err(corrupt)?, text });
        }
        Ok(Some(Run { number: u64::try_from(number).unwrap_or(0), plan, journal }))
    }
}

/// A file that an older ebb wrote has none.
fn has_runs(db: &Connection) -> rusqlite::Result<bool> {
    db.query_row("SELECT count(*) FROM sqlite_master WHERE name = 'journal'", [], |row| row.get::<_, i64>(0))
        .map(|count| count > 0)
}

fn add(db: &Connection, run: i64, line: &Line) -> rusqlite::Result<usize> {
    let (kind, step, word) = entry_to(&line.entry);
    db.execute(
        "INSERT INTO journal (run, at_ms, boot_id, entry, step, word, text) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![run, line.at.0, line.boot_id, kind, step, word, line.text],
    )
}
