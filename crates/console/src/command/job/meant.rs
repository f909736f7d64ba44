//! Which job is meant: the one of that name, or of that id, or the only one whose id begins so.

use sheaf_model::JobName;
use sheaf_model::view::JobRow;
use sheaf_wire::job::ListJobs;
use sheaf_wire::{ApiError, Client};

use super::job_name;
use crate::command::page;
use crate::exit::Failure;
use crate::text;

/// The name of the job that `asked` means. A name goes before an id; what cannot be an id is asked nobody about.
pub(super) async fn meant(client: &Client, asked: JobName) -> Result<JobName, Failure> {
    found(client, asked, |id, asked| id.starts_with(asked)).await
}

/// The same for a change: the id must be whole. What begins so may be the next job, once the one that was meant is gone.
pub(super) async fn meant_to_change(client: &Client, asked: JobName) -> Result<JobName, Failure> {
    found(client, asked, |id, asked| id == asked).await
}

async fn found(
    client: &Client,
    asked: JobName,
    fits: impl Fn(&str, &str) -> bool,
) -> Result<JobName, Failure> {
    if !asked.as_str().bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(asked);
    }
    let none = match client.job(&asked).await {
        Err(error @ ApiError::NotFound(_)) => error,
        Err(error) => return Err(error.into()),
        Ok(_) => return Ok(asked),
    };
    let list = async |page| client.list_jobs(ListJobs { page, ..ListJobs::default() }).await;
    let fitting = page::fitting(list, |row: &JobRow| fits(&row.id.to_string(), asked.as_str())).await?;
    match only(asked.as_str(), &fitting)? {
        Some(row) => job_name(&row.name).map_err(Failure::Refused),
        None => Err(none.into()),
    }
}

/// The one of these whose id this is, or else the only one; wrong usage if there are several.
fn only<'a>(id: &str, fitting: &'a [JobRow]) -> Result<Option<&'a JobRow>, Failure> {
    let exact = fitting.iter().find(|row| row.id.to_string() == id);
    if exact.is_some() || fitting.len() < 2 {
        return Ok(exact.or(fitting.first()));
    }
    let some: Vec<String> = fitting.iter().take(5).map(|row| format!("{} ({})", row.id, row.name)).collect();
    let problem = format!("the ids of {} begin with {id}", text::count(fitting.len(), "job"));
    Err(Failure::usage(problem, format!("more of it: {}", some.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn an_id_may_be_cut_off_as_long_as_it_is_of_one_job() {
        let row =
            |id: u64, name: &str| JobRow { id, name: name.to_owned(), ..example::row(example::status()) };
        let rows = [row(42, "ndvi"), row(421, "tiles"), row(430, "42x")];
        let name = |id, fitting: &[JobRow]| {
            let found = only(id, fitting).map_err(|failure| failure.message());
            found.map(|row| row.map(|row| row.name.clone()))
        };
        assert_eq!(name("42", &rows[..2]), Ok(Some("ndvi".to_owned())), "all of it");
        assert_eq!(name("43", &rows[2..]), Ok(Some("42x".to_owned())));
        assert_eq!(name("5", &[]), Ok(None));
        let said = name("4", &rows).expect_err("three");
        let wanted = "the ids of 3 jobs begin with 4; more of it: 42 (ndvi), 421 (tiles), 430 (42x)";
        assert!(said.contains(wanted), "{said}");
    }
}
