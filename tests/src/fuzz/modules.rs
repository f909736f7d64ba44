//! What modules say to who hosts them: their keepers and their nodes' agents.

use sheaf_module::host::probe;

use super::corpus::texts;
use super::messages::{anew, field, number};
use super::mutate::Soil;
use super::run::{Target, is_told};

pub(super) const MODULES: Target = Target {
    name: "modules",
    about: "all that modules answer and ask, from those that mean harm",
    inputs: 60_000,
    prepare: || {
        let words = texts(&["\u{8}\u{1}", "\u{12}", "\u{1a}", "\u{0}", "\u{1b}[2J", "é", "\u{7f}"]);
        let soil = Soil { corpus: corpus(), words, longest: 16 << 10, anew: Some(anew) };
        (soil, Box::new(hear))
    },
};

/// Something good of every kind, each for all of them.
fn corpus() -> Vec<Vec<u8>> {
    let end = [number(1, 7), number(2, 7), field(3, b"later"), number(4, u64::MAX)].concat();
    let good = [
        [number(1, 1), field(2, b"python 1")].concat(),
        [number(1, 0), field(2, b"there is no /x")].concat(),
        number(1, 4),
        [field(2, &[number(1, 7), field(2, b"a line"), number(3, 1)].concat()), field(3, &end)].concat(),
        field(1, "é".repeat(200).as_bytes()),
        [field(1, b"k"), field(2, b"value"), number(3, 0)].concat(),
        [field(1, b"note"), field(2, b"all is well")].concat(),
        [number(1, 1_700_000_000_000), field(2, b"too much")].concat(),
        [&[13_u8][..], "it failed ".repeat(200).as_bytes()].concat(),
    ];
    let kinds = u8::try_from(probe::ALL.len()).unwrap_or(u8::MAX);
    (0..kinds).flat_map(|kind| good.iter().map(move |good| [&[kind][..], good].concat())).collect()
}

fn hear(input: &[u8]) -> Result<(), String> {
    let Some((which, said)) = input.split_first() else { return Ok(()) };
    let (name, read) = probe::ALL[usize::from(*which) % probe::ALL.len()];
    read(said).or_else(|why| is_told(&why, input).map_err(|what| format!("{name}: {what}")))
}
