//! Changes of several things of one kind: one call each, in the order in which they were named, up to the first that fails.

use std::fmt::Display;
use std::path::PathBuf;

use sheaf_model::Document;
use sheaf_wire::{ApiError, Done};

use super::apply::{OutcomeRow, warn};
use crate::documents;
use crate::exit::{Exit, Failure};
use crate::options::Yes;
use crate::output::{Format, Terminal};
use crate::table::Listing;

/// Registers what these files hold, of one kind alone, whose content `of` finds. With a defect in any of them
/// nothing is asked for. Of several, each is validated before the first is registered: so `ask` is told.
pub(super) async fn apply<S: Clone>(
    kind: &str,
    files: &[PathBuf],
    format: Format,
    out: &mut Terminal,
    of: impl Fn(&Document) -> Option<&S>,
    mut ask: impl AsyncFnMut(S, bool) -> Result<Done, ApiError>,
) -> Result<Exit, Failure> {
    let mut written = documents::read(out, files);
    written.only(&[kind]);
    written.each_once();
    if !written.defects.is_empty() {
        return Err(Failure::Defects(written.defects));
    }
    let specs: Vec<(&Document, &S)> =
        written.documents().filter_map(|(_, document)| Some((document, of(document)?))).collect();
    if specs.len() > 1 {
        for (_, spec) in &specs {
            ask((*spec).clone(), true).await?;
        }
    }
    let mut listing = Listing::new(format);
    let ended = async {
        for (document, spec) in specs {
            let done = ask(spec.clone(), false).await?;
            let label = document.label();
            let name = label.split_once(' ').map_or("", |(_, name)| name);
            applied(kind, name, &done, out, &mut listing)?;
        }
        Ok(Exit::Done)
    }
    .await;
    listing.over(out, ended)
}

/// Prints what became of one thing that was applied by itself.
pub(super) fn applied(
    kind: &str,
    name: &str,
    done: &Done,
    out: &mut Terminal,
    listing: &mut Listing,
) -> Result<(), Failure> {
    warn(out, &done.warnings);
    let outcome = if done.unchanged { "unchanged" } else { "applied" };
    listing.page(out, &[OutcomeRow::of(kind, name, outcome, done.revision)])
}

/// Deletes what is named, once it is confirmed; `and` says in the question what else goes with it.
pub(super) async fn delete<N: Display>(
    kind: &str,
    names: Vec<N>,
    asked: (&str, Yes),
    format: Format,
    out: &mut Terminal,
    ask: impl AsyncFnMut(N) -> Result<Done, ApiError>,
) -> Result<Exit, Failure> {
    each(kind, ("delete", "deleted"), names, asked, format, out, ask).await
}

/// The same with another verb, as it is asked for and as it is told.
pub(super) async fn each<N: Display>(
    kind: &str,
    (verb, outcome): (&str, &str),
    names: Vec<N>,
    (and, yes): (&str, Yes),
    format: Format,
    out: &mut Terminal,
    mut ask: impl AsyncFnMut(N) -> Result<Done, ApiError>,
) -> Result<Exit, Failure> {
    let listed: Vec<String> = names.iter().map(N::to_string).collect();
    if !yes.yes && !out.confirm(&format!("{verb} {}{and}?", listed.join(", "))) {
        return Err(Failure::Refused(format!("nothing was {outcome}")));
    }
    let mut listing = Listing::new(format);
    let done = async {
        for (name, title) in names.into_iter().zip(&listed) {
            let done = ask(name).await?;
            warn(out, &done.warnings);
            listing.page(out, &[OutcomeRow::of(kind, title, outcome, done.revision)])?;
        }
        Ok(Exit::Done)
    }
    .await;
    listing.over(out, done)
}
