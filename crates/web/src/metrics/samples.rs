//! Numbers that stand now, in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt;

/// What was found at one scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples(BTreeMap<&'static str, Family>);

#[derive(Clone, Debug, PartialEq)]
struct Family {
    kind: &'static str,
    about: &'static str,
    /// Labels as they are written, and the value.
    samples: Vec<(String, f64)>,
}

impl Samples {
    /// A number that goes up and down.
    pub fn gauge(
        &mut self,
        name: &'static str,
        about: &'static str,
        labels: &[(&'static str, &str)],
        value: f64,
    ) {
        self.add("gauge", name, about, labels, value);
    }

    /// A number that only grows while the process lives; its name ends in `_total`.
    pub fn counter(
        &mut self,
        name: &'static str,
        about: &'static str,
        labels: &[(&'static str, &str)],
        value: f64,
    ) {
        self.add("counter", name, about, labels, value);
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }

    fn add(
        &mut self,
        kind: &'static str,
        name: &'static str,
        about: &'static str,
        labels: &[(&'static str, &str)],
        value: f64,
    ) {
        let labels: Vec<String> =
            labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let family = self.0.entry(name).or_insert(Family { kind, about, samples: Vec::new() });
        family.samples.push((labels, value));
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, family) in &self.0 {
            writeln!(f, "# HELP {name} {}\n# TYPE {name} {}", family.about, family.kind)?;
            for (labels, value) in &family.samples {
                writeln!(f, "{name}{labels} {value}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_by_family_and_labels_break_nothing() {
        let mut samples = Samples::default();
        samples.gauge("b_bytes", "B.", &[("path", "a\"b\\c\nd")], 1.5);
        samples.counter("a_total", "A.", &[], 3.0);
        samples.gauge("b_bytes", "B.", &[("path", "x"), ("more", "y")], 2.0);
        let expected = "# HELP a_total A.\n# TYPE a_total counter\na_total 3\n\
            # HELP b_bytes B.\n# TYPE b_bytes gauge\nb_bytes{path=\"a\\\"b\\\\c\\nd\"} 1.5\n\
            b_bytes{path=\"x\",more=\"y\"} 2\n";
        assert_eq!(samples.to_string(), expected);
    }
}
