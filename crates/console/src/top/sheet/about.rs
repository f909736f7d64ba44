//! What the title of a place says, whatever page of it is shown.

use super::super::ask::Answer;
use super::super::screen::Screen;
use super::super::state::State;
use super::Sheet;
use crate::command::job::about;

/// Adds a word for where the place stands.
pub(super) fn tell(state: &State, screen: &Screen, sheet: &mut Sheet) {
    let Some(answer) = screen.about().and_then(|ask| state.answer(&ask)) else { return };
    let (word, meaning) = match answer {
        Answer::Bucket(status) => {
            let about = status.state.about();
            (
                status.state.as_str().to_owned(),
                if status.message.is_empty() { about } else { &status.message },
            )
        }
        Answer::Node(detail) => (detail.row.status.clone(), detail.facts.reason.as_str()),
        Answer::Job(status) => {
            let about = about(status.state);
            (
                status.state.as_str().to_owned(),
                if status.message.is_empty() { about } else { &status.message },
            )
        }
        Answer::Why(why) => {
            let word = why.subtask.as_ref().map_or("", |row| row.state.as_str());
            (word.to_owned(), why.why.first().map_or("", String::as_str))
        }
        _ => return,
    };
    (sheet.word, sheet.about) = (word, meaning.to_owned());
}
