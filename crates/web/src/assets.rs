//! The pages: plain HTML, CSS and ES modules, part of the binary. Nothing is loaded from elsewhere.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::answer::Failed;
use crate::serve::Shared;

/// A file as it is served.
struct Asset {
    name: &'static str,
    text: &'static str,
    etag: String,
}

macro_rules! assets {
    ($($name:literal),* $(,)?) => {
        vec![$(Asset::new($name, include_str!(concat!("../assets/", $name)))),*]
    };
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    assets![
        "index.html",
        "favicon.svg",
        "style.css",
        "tables.css",
        "app.js",
        "api.js",
        "dom.js",
        "words.js",
        "plot.js",
        "act.js",
        "list.js",
        "login.js",
        "logs.js",
        "overview.js",
        "matrix.js",
        "nodes.js",
        "node.js",
        "buckets.js",
        "bucket.js",
        "changes.js",
        "jobs.js",
        "job.js",
        "subtask.js",
        "events.js",
        "sinks.js",
        "sink.js",
        "search.js",
    ]
});

impl Asset {
    fn new(name: &'static str, text: &'static str) -> Self {
        Self { name, text, etag: format!("\"{:016x}\"", fnv(text.as_bytes())) }
    }

    fn kind(&self) -> &'static str {
        match self.name.rsplit('.').next() {
            Some("html") => "text/html; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            _ => "image/svg+xml",
        }
    }

    fn answer(&self, headers: &HeaderMap) -> Response {
        let known =
            headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == self.etag.as_bytes());
        let mut response =
            if known { StatusCode::NOT_MODIFIED.into_response() } else { self.text.into_response() };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind()));
        // Asked for again each time, and sent when the binary is another one.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Ok(etag) = HeaderValue::from_str(&self.etag) {
            headers.insert(header::ETAG, etag);
        }
        response
    }
}

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/", get(async |headers: HeaderMap| answer("index.html", &headers)))
        .route("/favicon.ico", get(async |headers: HeaderMap| answer("favicon.svg", &headers)))
        .route(
            "/assets/{name}",
            get(async |Path(name): Path<String>, headers: HeaderMap| answer(&name, &headers)),
        )
}

fn answer(name: &str, headers: &HeaderMap) -> Result<Response, Failed> {
    // By name in a list: a path leads to no other file.
    let asset = ASSETS.iter().find(|asset| asset.name == name);
    asset
        .map(|asset| asset.answer(headers))
        .ok_or_else(|| Failed::not_found(format!("there is no asset {name:?}")))
}

/// FNV-1a: tells versions apart, proves nothing.
fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use sheaf_model::view::BucketState;
    use sheaf_model::{JobState, NodeStatus, Phase, SubtaskState};

    use super::*;

    #[test]
    fn pages_bring_along_all_they_need() {
        for asset in ASSETS.iter() {
            // A page that asked elsewhere would be stopped by its policy; it must not even try.
            for far in ["http://", "https://", "//cdn", "@import"] {
                let own = asset.text.replace("http://www.w3.org/", "");
                assert!(!own.contains(far), "{} names {far}", asset.name);
            }
            // What comes from outside is text, never markup.
            for unsafe_word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!asset.text.contains(unsafe_word), "{} has {unsafe_word}", asset.name);
            }
            for from in asset.text.split("from \"./").skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(ASSETS.iter().any(|other| other.name == from), "{} imports {from}", asset.name);
            }
        }
        let index = ASSETS.iter().find(|asset| asset.name == "index.html").expect("the first page");
        assert!(
            !index.text.contains("<style")
                && !index.text.contains(" style=")
                && !index.text.contains("onclick")
        );
        for path in index.text.split("/assets/").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(ASSETS.iter().any(|asset| asset.name == path), "the page asks for {path}");
        }
    }

    #[test]
    fn every_state_that_answers_name_has_its_look() {
        let asset = ASSETS.iter().find(|asset| asset.name == "words.js").expect("it is brought along");
        let from = asset.text.split("const STATES = {").nth(1).expect("states");
        let states = from.split("};").next().expect("they end");
        let nodes = NodeStatus::ALL.map(NodeStatus::as_str);
        let buckets = BucketState::ALL.map(BucketState::as_str);
        let phases = Phase::ALL.map(Phase::as_str);
        let jobs = JobState::ALL.map(JobState::as_str);
        let subtasks = SubtaskState::ALL.map(SubtaskState::as_str);
        // Those that are words in answers alone: of nodes that the leader has its doubts about, attempts, gates, cells, backends,
        // sinks, and what else needs attention.
        let others = [
            "suspect",
            "handed_back",
            "pass",
            "refuse",
            "unknown",
            "available",
            "refused",
            "closed",
            "open",
            "trying",
            "idle",
            "delivering",
            "failing",
            "delivered",
            "no leader",
            "no spare voter",
            "incomplete",
            "not answered",
        ];
        let all: [&[&str]; 6] = [&nodes, &buckets, &phases, &jobs, &subtasks, &others];
        for word in all.concat() {
            let known = [format!(" {word}: ["), format!("\"{word}\": [")];
            assert!(
                known.iter().any(|known| states.contains(known.as_str())),
                "words.js has no look for {word:?}"
            );
        }
    }

    #[test]
    fn the_legend_of_the_matrix_has_every_mark_of_a_cell() {
        let asset = ASSETS.iter().find(|asset| asset.name == "matrix.js").expect("it is brought along");
        let from = asset.text.split("const LEGEND = [").nth(1).expect("a legend");
        let legend = from.split(']').next().expect("it ends");
        let phases = Phase::ALL.map(Phase::as_str);
        for mark in phases.into_iter().chain(["available", "refused", "unknown"]) {
            assert!(legend.contains(&format!("{mark:?}")), "{mark}: {legend}");
        }
    }

    #[test]
    fn a_file_that_is_known_is_not_sent_again() {
        let first = answer("style.css", &HeaderMap::new()).expect("it is there");
        let etag = first.headers()[header::ETAG].clone();
        let again =
            answer("style.css", &HeaderMap::from_iter([(header::IF_NONE_MATCH, etag)])).expect("it is there");
        assert_eq!((first.status(), again.status()), (StatusCode::OK, StatusCode::NOT_MODIFIED));
        for strange in ["", "../Cargo.toml", "style.css/", "STYLE.CSS", "..%2fsrc%2flib.rs"] {
            assert!(answer(strange, &HeaderMap::new()).is_err(), "{strange}");
        }
    }
}
