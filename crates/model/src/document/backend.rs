//! `kind: Backend`.

use serde_json::Value;

use super::bucket::{label_defects, object};
use super::reader::{Defects, Fields, Wrong, mapping, measure, parsed, string, whole};
use crate::backend::BACKEND_CONFIG_MAX;
use crate::{BackendName, BackendSpec, Breaker, Bytes, Defect, Span, SpanRange};

/// The shortest first pause: nothing is asked again in a tight loop.
const PAUSE_LEAST: Span = Span::millis(100);

/// Reads a backend; none if its name cannot be read. Fields with defects stay at their defaults.
pub(super) fn read(value: &Value, defects: &mut Defects) -> Option<BackendSpec> {
    let mut fields = Fields::of(value, defects)?;
    fields.value("kind");
    let name = fields.required("name", "a name like vito", parsed(BackendName::new));
    let max_running = fields.get("max_running", whole);
    let rate = fields.get("rate", measure("a number and a duration, like 10 in 1s"));
    let breaker = fields.get("breaker", read_breaker);
    let config = fields.get("config", object);
    let labels = fields.get("labels", mapping(|key| Ok::<_, Wrong>(key.to_owned()), string, || None));
    let owner = fields.get("owner", string);
    fields.finish();
    let mut spec = BackendSpec::new(name?);
    spec.max_running = max_running;
    spec.rate = rate;
    spec.breaker = breaker.unwrap_or_default();
    spec.config = config.unwrap_or(spec.config);
    spec.labels = labels.unwrap_or_default();
    spec.owner = owner;
    Some(spec)
}

fn read_breaker(value: &Value, defects: &mut Defects) -> Option<Breaker> {
    let mut fields = Fields::of(value, defects)?;
    let mut breaker = Breaker::default();
    if let Some(failures) = fields.get("failures", whole) {
        breaker.failures = failures;
    }
    if let Some(SpanRange { min, max }) = fields.get("pause", measure("two durations like 30s..10m")) {
        (breaker.pause_min, breaker.pause_max) = (min, max);
    }
    fields.finish();
    Some(breaker)
}

/// What is wrong with a backend as a whole.
pub fn backend_defects(spec: &BackendSpec) -> Vec<Defect> {
    let mut defects = Vec::new();
    if spec.max_running == Some(0) {
        defects.push(Defect::new("max_running", "nothing could ever run", "at least 1, or leave it out"));
    }
    if spec.rate.is_some_and(|rate| rate.count == 0) {
        defects.push(Defect::new("rate", "nothing could ever run", "at least 1 in a time, or leave it out"));
    }
    let Breaker { pause_min, pause_max, .. } = spec.breaker;
    if pause_min > pause_max {
        let problem = format!("{pause_min}..{pause_max} begins above its end");
        defects.push(Defect::new("breaker.pause", problem, format!("{pause_max}..{pause_min}")));
    } else if pause_min < PAUSE_LEAST {
        let problem = format!("a first pause of {pause_min} would ask again in a tight loop");
        defects.push(Defect::new("breaker.pause", problem, format!("at least {PAUSE_LEAST}, like 30s..10m")));
    }
    let bytes = spec.config.as_str().len();
    if bytes > BACKEND_CONFIG_MAX {
        let most = Bytes(BACKEND_CONFIG_MAX as u64);
        defects.push(Defect::new("config", format!("{bytes} bytes"), format!("at most {most}")));
    }
    defects.extend(label_defects(spec.owner.as_deref(), &spec.labels));
    defects
}

#[cfg(test)]
mod tests {
    use super::super::{Document, backend_value, parse, parse_values};
    use super::*;

    fn defects(text: &str) -> Vec<String> {
        parse("", text.as_bytes()).defects.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_backend_is_read_and_written() {
        let text = "kind: Backend\nname: vito\nmax_running: 20\nrate: 10 in 1s\n\
                    breaker: {failures: 3, pause: 1s..1m}\nconfig: {url: 'https://x'}\nlabels: {a: b}\nowner: eo\n";
        let parsed = parse("", text.as_bytes());
        assert_eq!(parsed.defects, []);
        let [Document::Backend(spec)] = parsed.documents.as_slice() else { panic!("{parsed:?}") };
        assert_eq!((spec.max_running, spec.rate.unwrap().count, spec.breaker.failures), (Some(20), 10, 3));
        let again = parse_values("", &[backend_value(spec)]);
        assert_eq!(again.documents, parsed.documents);
        let plain = parse("", b"kind: Backend\nname: vito\n");
        let [Document::Backend(spec)] = plain.documents.as_slice() else { panic!("{plain:?}") };
        assert_eq!(**spec, BackendSpec::new(BackendName::new("vito").unwrap()));
        assert_eq!(parse_values("", &[backend_value(spec)]).documents, plain.documents);
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        let with = |more: &str| defects(&format!("kind: Backend\nname: b\n{more}\n"));
        assert!(with("max_running: 0")[0].contains("max_running: nothing could ever run"));
        assert!(with("rate: 0 in 1s")[0].contains("rate: nothing could ever run"));
        assert!(with("rate: 5")[0].contains("rate"));
        assert!(with("breaker: {pause: 10s..1s}")[0].contains("begins above its end"));
        assert!(with("breaker: {pause: 1ms..1s}")[0].contains("tight loop"));
        assert!(with("limit: 3")[0].contains("limit"));
        assert!(defects("kind: Backend\n")[0].contains("name"));
    }
}
