//! Lists, a page at a time: no list is ever held whole.

use futures::{StreamExt as _, TryStreamExt as _};
use sheaf_model::Defect;
use sheaf_wire::{ApiError, Filter, PAGE_MAX, Page as Rows, PageOf, Term};

use crate::exit::{Exit, Failure};
use crate::options::{Labels, Page};
use crate::output::{Format, Terminal};
use crate::table::{Listed, Listing};

/// Documents that are asked for at a time, for `-o yaml`.
const AT_A_TIME: usize = 16;

/// The rows that fit, on whichever page each stands.
pub(super) async fn fitting<R>(
    mut fetch: impl AsyncFnMut(PageOf) -> Result<Rows<R>, ApiError>,
    fits: impl Fn(&R) -> bool,
) -> Result<Vec<R>, ApiError> {
    let (mut found, mut token) = (Vec::new(), String::new());
    loop {
        let answer = fetch(PageOf { size: PAGE_MAX, token }).await?;
        found.extend(answer.rows.into_iter().filter(&fits));
        if answer.next.is_empty() {
            return Ok(found);
        }
        token = answer.next;
    }
}

/// Asks for page after page until there are as many rows as wanted, and shows each; how many there were. Says how to
/// go on when there are more.
pub(super) async fn each<R>(
    page: &Page,
    out: &mut Terminal,
    mut fetch: impl AsyncFnMut(PageOf) -> Result<Rows<R>, Failure>,
    mut show: impl AsyncFnMut(&mut Terminal, Vec<R>) -> Result<(), Failure>,
) -> Result<usize, Failure> {
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let mut token = page.after.clone().unwrap_or_default();
    let mut shown = 0;
    loop {
        let left = u32::try_from(limit.saturating_sub(shown)).unwrap_or(PAGE_MAX);
        let size = if page.all { PAGE_MAX } else { left.min(PAGE_MAX) };
        let answer = fetch(PageOf { size, token }).await.map_err(asked_wrongly)?;
        shown += answer.rows.len();
        show(out, answer.rows).await?;
        if answer.next.is_empty() {
            return Ok(shown);
        }
        if !page.all && shown >= limit {
            out.say(&format!("there are more: go on with --after {}, or ask for --all", answer.next));
            return Ok(shown);
        }
        token = answer.next;
    }
}

/// What the other side finds wrong with the question stands on the command line: which keys and cursors there are, it knows.
fn asked_wrongly(failure: Failure) -> Failure {
    let option = |defect: &Defect| match defect.path.as_str() {
        "filter" => Some("--where"),
        "page_token" => Some("--after"),
        _ => None,
    };
    match failure {
        Failure::Defects(defects) if defects.iter().all(|it| option(it).is_some()) => {
            let Some((last, before)) = defects.split_last() else { return Failure::Defects(defects) };
            let said = |it: &Defect| format!("{}: {}", option(it).unwrap_or_default(), it.problem);
            let mut problem: String =
                before.iter().map(|it| format!("{}; {}\n", said(it), it.remedy)).collect();
            problem.push_str(&said(last));
            Failure::usage(problem, last.remedy.as_str())
        }
        other => other,
    }
}

/// Prints a list in any format, page by page. `empty` says what to do when there is nothing at all.
pub(super) async fn print<R: Listed>(
    page: &Page,
    format: Format,
    out: &mut Terminal,
    empty: &str,
    fetch: impl AsyncFnMut(PageOf) -> Result<Rows<R>, Failure>,
) -> Result<(), Failure> {
    let mut listing = Listing::new(format);
    let shown = each(page, out, fetch, async |out, rows| listing.page(out, &rows)).await;
    if listing.over(out, shown)? == 0 {
        out.say(empty);
    }
    Ok(())
}

/// Prints a list that was narrowed. `empty` says what to do when there is nothing at all, `none_such` when nothing is like that.
pub(super) async fn narrowed<R: Listed>(
    filter: &Filter,
    page: &Page,
    format: Format,
    out: &mut Terminal,
    (empty, none_such): (&str, &str),
    mut fetch: impl AsyncFnMut(PageOf, Filter) -> Result<Rows<R>, ApiError>,
) -> Result<Exit, Failure> {
    let empty = if filter.terms.is_empty() { empty } else { none_such };
    print(page, format, out, empty, async |page| Ok(fetch(page, filter.clone()).await?)).await?;
    Ok(Exit::Done)
}

/// What a list of things with labels of a key and a value is narrowed to: terms as below, and these labels.
pub(super) fn labelled(Labels { labels }: &Labels, texts: &[String]) -> Result<Filter, Failure> {
    let narrow = |filter: Filter, (key, value): &(String, String)| filter.with(format!("label.{key}"), value);
    Ok(labels.iter().fold(filter(texts)?, narrow))
}

/// A document of something that is listed, in YAML.
pub(super) struct Printed {
    text: String,
    /// What cannot stand in it, for people; empty: nothing.
    remark: String,
}

impl Printed {
    /// One that says all there is.
    pub(super) const fn whole(text: String) -> Self {
        Self { text, remark: String::new() }
    }

    /// One without what the remark tells of.
    pub(super) const fn without(text: String, remark: String) -> Self {
        Self { text, remark }
    }

    /// Prints it.
    pub(super) fn print(&self, out: &mut Terminal) -> Result<(), Failure> {
        out.documents(&self.text)?;
        if !self.remark.is_empty() {
            out.say(&self.remark);
        }
        Ok(())
    }
}

/// As [`narrowed`] of things that have documents, which is what `-o yaml` prints: they can be applied again. `document` asks for
/// that of a row; none: it is gone meanwhile, and left out.
pub(super) async fn documented<R: Listed, D: Future<Output = Result<Option<Printed>, Failure>>>(
    filter: &Filter,
    page: &Page,
    format: Format,
    out: &mut Terminal,
    (empty, none_such): (&str, &str),
    mut fetch: impl AsyncFnMut(PageOf, Filter) -> Result<Rows<R>, ApiError>,
    document: impl Fn(R) -> D,
) -> Result<Exit, Failure> {
    if format != Format::Yaml {
        return narrowed(filter, page, format, out, (empty, none_such), fetch).await;
    }
    let mut first = true;
    let show = async |out: &mut Terminal, rows: Vec<R>| {
        documents(out, rows.into_iter().map(&document), &mut first).await
    };
    if each(page, out, async |page| Ok(fetch(page, filter.clone()).await?), show).await? == 0 {
        out.say(if filter.terms.is_empty() { empty } else { none_such });
    }
    Ok(Exit::Done)
}

/// Prints documents in their order, while more of them are asked for.
async fn documents<D: Future<Output = Result<Option<Printed>, Failure>>>(
    out: &mut Terminal,
    asked: impl Iterator<Item = D>,
    first: &mut bool,
) -> Result<(), Failure> {
    let mut answers = futures::stream::iter(asked).buffered(AT_A_TIME);
    while let Some(answer) = answers.try_next().await? {
        let Some(document) = answer else { continue };
        if !std::mem::take(first) {
            out.line("---")?;
        }
        document.print(out)?;
    }
    Ok(())
}

/// The answer, unless what was asked about is not there any more.
pub(super) fn there<T>(answer: Result<T, ApiError>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(there) => Ok(Some(there)),
        Err(ApiError::NotFound(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What a list is narrowed to: terms `KEY=VALUE` or `KEY!=VALUE`. Which keys there are, the other side knows.
pub(super) fn filter(texts: &[String]) -> Result<Filter, Failure> {
    let terms = texts.iter().map(|text| {
        let Some((key, value)) = text.split_once('=') else {
            let remedy = "KEY=VALUE or KEY!=VALUE, like state=running";
            return Err(Failure::usage(format!("--where {text:?} has no value"), remedy));
        };
        let (key, not) = key.strip_suffix('!').map_or((key, false), |key| (key, true));
        Ok(Term { key: key.trim().to_owned(), not, value: value.trim().to_owned() })
    });
    Ok(Filter { terms: terms.collect::<Result<_, _>>()? })
}

#[cfg(test)]
mod tests {
    use sheaf_model::Revision;

    use super::*;
    use crate::command::apply::OutcomeRow;
    use crate::output::recorded;

    /// Answers from 2,500 numbers.
    async fn numbers(page: PageOf) -> Result<Rows<u32>, Failure> {
        let from = page.token.parse().unwrap_or(0);
        let to = (from + page.size).min(2500);
        Ok(Rows { rows: (from..to).collect(), next: if to < 2500 { to.to_string() } else { String::new() } })
    }

    async fn asked(page: Page) -> (usize, String) {
        let (mut out, recording) = recorded::terminal("");
        let mut sum = 0;
        let count = each(&page, &mut out, numbers, async |_, rows| {
            sum += rows.len();
            Ok(())
        });
        let count = count.await.expect("numbers are there");
        assert_eq!(count, sum);
        (count, recording.talk())
    }

    #[tokio::test]
    async fn a_list_ends_at_its_limit_and_says_how_to_go_on() {
        let page = |limit, after: Option<&str>, all| Page { limit, after: after.map(str::to_owned), all };
        let more = |cursor: &str| format!("there are more: go on with --after {cursor}, or ask for --all\n");
        assert_eq!(asked(page(1000, None, false)).await, (1000, more("1000")));
        assert_eq!(asked(page(10, Some("7"), false)).await, (10, more("17")));
        assert_eq!(asked(page(2000, None, false)).await, (2000, more("2000")));
        assert_eq!(asked(page(1000, Some("1500"), false)).await, (1000, String::new()));
        assert_eq!(asked(page(1000, None, true)).await, (2500, String::new()));
    }

    #[tokio::test]
    async fn a_list_that_breaks_off_on_a_later_page_is_json() {
        let (mut out, recording) = recorded::terminal("");
        let page = Page { limit: 1000, after: None, all: true };
        let row = || OutcomeRow::of("Bucket", "/a", "created", Revision(1));
        let fetch = async |page: PageOf| match page.token.as_str() {
            "" => Ok(Rows { rows: vec![row()], next: "1".to_owned() }),
            _ => Err(Failure::Refused("the node stops".to_owned())),
        };
        let broken = print(&page, Format::Json, &mut out, "none", fetch).await;
        assert_eq!(broken.expect_err("it broke off").to_string(), "the node stops");
        let rows: Vec<serde_json::Value> = serde_json::from_str(&recording.data()).expect("JSON");
        assert_eq!(rows.len(), 1);
    }

    #[tokio::test]
    async fn what_is_wrong_with_the_question_is_wrong_usage() {
        let refused = async |path: &str| {
            let defects =
                ["colour", "size"].map(|key| Defect::new(path, format!("unknown key {key:?}"), "name"));
            let (mut out, _) = recorded::terminal("");
            let page = Page { limit: 1, after: None, all: false };
            let fetch = async |_: PageOf| Err::<Rows<u32>, _>(Failure::Defects(defects.to_vec()));
            let asked = each(&page, &mut out, fetch, async |_, _| Ok(())).await;
            asked.expect_err("it is refused")
        };
        let wrong = refused("filter").await;
        let told = "error: --where: unknown key \"colour\"; name\n--where: unknown key \"size\"; name";
        assert_eq!((wrong.exit().code(), wrong.message().as_str()), (2, told));
        assert_eq!(refused("page_token").await.exit().code(), 2);
        assert_eq!(refused("where").await.exit().code(), 1, "what is SQL is no option's word");
    }

    #[test]
    fn a_filter_is_made_of_terms() {
        let read = |texts: &[&str]| filter(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            read(&["state!=running", "name=/logs/*"]).expect("a filter").to_string(),
            "state!=running,name=/logs/*"
        );
        assert_eq!(read(&["x"]).expect_err("no value").exit().code(), 2);
    }
}
