//! The functions that the views are made with.

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{Value, ValueRef};
use rusqlite::vtab::array::{self, Array};
use rusqlite::{Connection, Error};
use sheaf_engine::Job;
use sheaf_engine::job::progress::{Place, Running};
use sheaf_engine::job::step::What;
use sheaf_model::{JobId, NodeId, Run, SubtaskState, Timestamp};

use super::source::Source;
use crate::ends::{AttemptState, RanAttempt};
use crate::error::StoreError;
use crate::steps::kind;
use crate::trail::BLOCK;

/// Subtasks that are expanded at a time.
const PIECE: u32 = 4_096;

/// What a function answers.
type Answer<T> = rusqlite::Result<T>;

/// A source that functions share. SQLite calls one at a time, so that nobody ever waits for the lock.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Source>>);

impl Shared {
    /// The view of a part of the subtasks has these from now on.
    pub(super) fn show(&self, part: Run) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).part = part;
    }

    fn with<T>(&self, work: impl FnOnce(&mut Source) -> Result<T, StoreError>) -> Answer<T> {
        let mut source = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut source).map_err(|error| Error::UserFunctionError(Box::new(error)))
    }
}

/// Makes them known to a connection.
pub(super) fn register(db: &Connection, source: Source) -> rusqlite::Result<Shared> {
    array::load_module(db)?;
    let shared = Shared(Arc::new(Mutex::new(source)));
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    db.create_scalar_function("sheaf_time", 1, flags, |ctx| {
        let at: Option<i64> = ctx.get(0)?;
        Ok(at.map(|at| Timestamp(at.cast_unsigned()).to_string()))
    })?;
    db.create_scalar_function("sheaf_numbers", 1, flags, |ctx| {
        Ok(numbers(piece(ctx.get(0)?).numbers().map(i64::from)))
    })?;
    macro_rules! function {
        ($name:literal, $arguments:literal, $function:ident) => {{
            let shared = shared.clone();
            db.create_scalar_function($name, $arguments, flags, move |ctx| {
                shared.with(|source| Ok($function(source, ctx)))?
            })?;
        }};
    }
    function!("sheaf_node", 1, node);
    function!("sheaf_backend", 2, backend);
    function!("sheaf_job", 2, job);
    function!("sheaf_pieces", 2, pieces);
    function!("sheaf_subtask", 3, subtask);
    function!("sheaf_running", 1, running);
    function!("sheaf_blocks", 1, blocks);
    function!("sheaf_finished", 2, finished);
    function!("sheaf_attempt", 3, attempt);
    function!("sheaf_steps", 2, steps);
    function!("sheaf_step", 4, step);
    function!("sheaf_part", 2, part);
    Ok(shared)
}

fn numbers(all: impl IntoIterator<Item = i64>) -> Array {
    Rc::new(all.into_iter().map(Value::Integer).collect())
}

/// Some subtasks, as one number.
fn packed(run: Run) -> i64 {
    i64::from(run.first) << 32 | i64::from(run.last)
}

fn piece(packed: i64) -> Run {
    let [first, last] = [packed >> 32, packed & i64::from(u32::MAX)];
    let first = u32::try_from(first).unwrap_or_default();
    let last = u32::try_from(last).unwrap_or_default();
    // Whatever it is asked for, it is never more than a piece.
    Run::new(first, last.clamp(first, first.saturating_add(PIECE - 1)))
}

fn job_id(ctx: &Context<'_>) -> Answer<JobId> {
    ctx.get::<i64>(0).map(|id| JobId(id.cast_unsigned()))
}

fn word<'c>(ctx: &'c Context<'_>, place: usize) -> &'c str {
    match ctx.get_raw(place) {
        ValueRef::Text(text) => std::str::from_utf8(text).unwrap_or_default(),
        _ => "",
    }
}

fn failed(error: StoreError) -> Error {
    Error::UserFunctionError(Box::new(error))
}

fn text(text: &(impl ToString + ?Sized)) -> Value {
    Value::Text(text.to_string())
}

fn some(text: Option<impl ToString>) -> Value {
    text.map_or(Value::Null, |text| Value::Text(text.to_string()))
}

fn count(number: u64) -> Value {
    Value::Integer(number.cast_signed())
}

fn time(at: Option<Timestamp>) -> Value {
    at.map_or(Value::Null, |at| count(at.0))
}

fn node(source: &mut Source, ctx: &Context<'_>) -> Answer<Value> {
    let id: Option<i64> = ctx.get(0)?;
    let name = id.map(|id| source.node(NodeId(id.cast_unsigned()))).transpose();
    Ok(some(name.map_err(failed)?))
}

fn backend(source: &mut Source, ctx: &Context<'_>) -> Answer<Value> {
    let place: Option<u8> = ctx.get(1)?;
    backend_named(source, job_id(ctx)?, place)
}

fn backend_named(source: &mut Source, id: JobId, place: Option<u8>) -> Answer<Value> {
    let Some(place) = place else { return Ok(Value::Null) };
    let named = |job: &Job| job.spec.backends.get(usize::from(place)).map(ToString::to_string);
    Ok(some(source.job(id, named).map_err(failed)?.flatten()))
}

fn job(source: &mut Source, ctx: &Context<'_>) -> Answer<Value> {
    let what = word(ctx, 1);
    let found = source.job(job_id(ctx)?, |job| {
        let counts = job.counts();
        match what {
            "state" => text(job.state().as_str()),
            "priority" => Value::Integer(job.priority.into()),
            "waiting" => count(counts.waiting),
            "ready" => count(counts.ready),
            "running" => count(counts.running),
            "finished" => count(counts.finished),
            "failed" => count(counts.failed),
            "canceled" => count(counts.canceled),
            "progress" => count(counts.progress()),
            "created_at" => time(Some(job.created_at)),
            "started_at" => time(job.started_at),
            "ended_at" => time(job.ended_at),
            "reason" => some(job.canceled.as_ref()),
            "labels" => some(serde_json::to_string(&job.spec.labels).ok()),
            "owner" => some(job.spec.owner.as_ref()),
            "revision" => count(job.revision.0.max(job.created.0)),
            _ => Value::Null,
        }
    });
    Ok(found.map_err(failed)?.unwrap_or(Value::Null))
}

/// The subtasks of a job in a state, in pieces.
fn pieces(source: &mut Source, ctx: &Context<'_>) -> Answer<Array> {
    pieces_within(source, ctx, Run::new(0, u32::MAX))
}

/// The same of the part that is to be shown.
fn part(source: &mut Source, ctx: &Context<'_>) -> Answer<Array> {
    let part = source.part;
    pieces_within(source, ctx, part)
}

fn pieces_within(source: &mut Source, ctx: &Context<'_>, within: Run) -> Answer<Array> {
    let state = SubtaskState::ALL.into_iter().find(|state| state.as_str() == word(ctx, 1));
    let found = source.job(job_id(ctx)?, |job| {
        let mut pieces = Vec::new();
        for (run, place) in job.progress.places(within) {
            if Some(job.state_at(place)) == state {
                let starts = run.numbers().step_by(PIECE as usize);
                pieces.extend(
                    starts
                        .map(|first| packed(Run::new(first, first.saturating_add(PIECE - 1).min(run.last)))),
                );
            }
        }
        pieces
    });
    Ok(numbers(found.map_err(failed)?.unwrap_or_default()))
}

fn running(source: &mut Source, ctx: &Context<'_>) -> Answer<Array> {
    let found =
        source.job(job_id(ctx)?, |job| job.progress.running().keys().copied().map(i64::from).collect());
    Ok(numbers(found.map_err(failed)?.unwrap_or_else(Vec::new)))
}

/// One column of a subtask: of what runs from the job, of what does not from its last attempt.
fn subtask(source: &mut Source, ctx: &Context<'_>) -> Answer<Value> {
    let (id, what) = (job_id(ctx)?, word(ctx, 2));
    let Ok(subtask) = u32::try_from(ctx.get::<i64>(1)?) else { return Ok(Value::Null) };
    if what == "priority" {
        let found = source.job(id, |job| job.priority_of(subtask)).map_err(failed)?;
        return Ok(found.map_or(Value::Null, |it| Value::Integer(it.into())));
    }
    let found = source.job(id, |job| {
        let progress = &job.progress;
        let finished = progress.place(subtask) == Some(Place::Finished);
        (progress.running().get(&subtask).copied(), progress.tries(subtask).given, finished)
    });
    let (running, given, finished) = found.map_err(failed)?.unwrap_or_default();
    if let Some(running) = running {
        return of_running(source, id, running, what);
    }
    let block = source.block(id, subtask / BLOCK, finished).map_err(failed)?;
    let last = block.range((subtask, 0)..=(subtask, u32::MAX)).next_back();
    match (last, what) {
        (Some((_, ran)), what) => of_attempt(source, id, ran, what),
        (None, "attempt") => Ok(Value::Integer(given.into())),
        (None, "message") => Ok(text("")),
        (None, _) => Ok(Value::Null),
    }
}

fn of_running(source: &mut Source, id: JobId, running: Running, what: &str) -> Answer<Value> {
    Ok(match what {
        "attempt" => Value::Integer(running.attempt.into()),
        "node" => text(&source.node(running.node).map_err(failed)?),
        "backend" => backend_named(source, id, running.backend)?,
        "started_at" => time(Some(running.since)),
        "message" => text(""),
        _ => Value::Null,
    })
}

fn of_attempt(source: &mut Source, id: JobId, ran: &RanAttempt, what: &str) -> Answer<Value> {
    Ok(match what {
        "attempt" => Value::Integer(ran.number.into()),
        "node" => some(ran.node.map(|node| source.node(node)).transpose().map_err(failed)?),
        "backend" => backend_named(source, id, ran.backend)?,
        "started_at" => time(ran.started_at),
        "ended_at" => time(Some(ran.ended_at)),
        "exit_code" => ran.exit_code.map_or(Value::Null, |code| Value::Integer(code.into())),
        "message" => text(&ran.message),
        "fingerprint" => some(ran.fingerprint),
        _ => Value::Null,
    })
}

fn blocks(source: &mut Source, ctx: &Context<'_>) -> Answer<Array> {
    Ok(numbers(source.blocks(job_id(ctx)?).map_err(failed)?))
}

/// The attempts of a block that finished.
fn finished(source: &mut Source, ctx: &Context<'_>) -> Answer<Array> {
    let block = u32::try_from(ctx.get::<i64>(1)?).unwrap_or(u32::MAX);
    let block = source.block(job_id(ctx)?, block, true).map_err(failed)?;
    let finished = block.iter().filter(|(_, ran)| ran.end == AttemptState::Finished);
    // Subtask and number, as a run would be.
    Ok(numbers(finished.map(|((subtask, number), _)| i64::from(*subtask) << 32 | i64::from(*number))))
}

fn attempt(source: &mut Source, ctx: &Context<'_>) -> Answer<Value> {
    let (id, key, what) = (job_id(ctx)?, ctx.get::<i64>(1)?, word(ctx, 2));
    let subtask = u32::try_from(key >> 32).unwrap_or_default();
    let number = u32::try_from(key & i64::from(u32::MAX)).unwrap_or_default();
    let block = source.block(id, subtask / BLOCK, true).map_err(failed)?;
    match block.get(&(subtask, number)) {
        Some(ran) => of_attempt(source, id, ran, what),
        None => Ok(Value::Null),
    }
}

/// The places of the steps in a piece of history.
fn steps(source: &mut Source, ctx: &Context<'_>) -> Answer<Array> {
    let piece = source.piece(job_id(ctx)?, ctx.get(1)?).map_err(failed)?;
    let count = piece.map_or(0, |piece| piece.all.steps.len());
    Ok(numbers((0..count).filter_map(|place| i64::try_from(place).ok())))
}

fn step(source: &mut Source, ctx: &Context<'_>) -> Answer<Value> {
    let piece = source.piece(job_id(ctx)?, ctx.get(1)?).map_err(failed)?;
    let place = usize::try_from(ctx.get::<i64>(2)?).unwrap_or(usize::MAX);
    let Some(piece) = piece else { return Ok(Value::Null) };
    let Some(step) = piece.all.steps.get(place) else { return Ok(Value::Null) };
    Ok(match word(ctx, 3) {
        "kind" => text(kind(step.what)),
        "first" => Value::Integer(step.run.first.into()),
        "last" => Value::Integer(step.run.last.into()),
        "attempt" if step.attempt > 0 => Value::Integer(step.attempt.into()),
        "node" => match step.what {
            What::Granted(node, _) => text(&source.node(node).map_err(failed)?),
            _ => Value::Null,
        },
        "class" => match step.what {
            What::Retried(class, _) | What::Failed(class) => text(class.as_str()),
            _ => Value::Null,
        },
        "actor" if !piece.all.actor.0.is_empty() => text(&piece.all.actor),
        "reason" => some(piece.reason(step)),
        _ => Value::Null,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_a_piece_is_expanded() {
        let whole = Run::new(5_000, 9_000);
        assert_eq!(piece(packed(whole)), whole);
        for (wrong, len) in
            [(i64::from(u32::MAX), PIECE.into()), (i64::MAX, PIECE.into()), (-1, PIECE.into()), (9 << 32, 1)]
        {
            assert_eq!(piece(wrong).len(), len, "{wrong}");
        }
    }
}
