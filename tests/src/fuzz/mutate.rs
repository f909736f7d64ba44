//! Inputs out of others: a few changes each, as chance has it.

use std::ops::Range;

use sheaf_simulation::random::Random;

/// Numbers at which something ends.
const EDGES: [&str; 16] = [
    "0",
    "1",
    "-1",
    "+1",
    "007",
    "0.5",
    "1e999",
    "255",
    "65535",
    "65536",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999",
];
/// What means something somewhere.
const SIGNS: &[u8] = b"{}[]()<>\"'`:;,.=!&|*?#%$@/\\-+~^_ \t\r\n\0\x7f\x80\xff";
/// Most changes of one input.
const CHANGES: u64 = 16;

/// What inputs are made out of.
#[derive(Debug)]
pub(super) struct Soil {
    /// Good inputs; at least one.
    pub(super) corpus: Vec<Vec<u8>>,
    /// What means something to the target.
    pub(super) words: Vec<Vec<u8>>,
    /// Longest input in bytes.
    pub(super) longest: usize,
    /// Makes an input anew; none: all are made out of the corpus.
    pub(super) anew: Option<fn(&mut Random) -> Vec<u8>>,
}

/// The input of a seed.
pub(super) fn input(soil: &Soil, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = match soil.anew {
        Some(anew) if random.chance(500) => anew(&mut random),
        _ => pick(&soil.corpus, &mut random).to_vec(),
    };
    // One in fifty as it stands.
    let mut changes = u64::from(!random.chance(20));
    while changes > 0 && changes < CHANGES && random.chance(600) {
        changes += 1;
    }
    for _ in 0..changes {
        change(&mut bytes, soil, &mut random);
        bytes.truncate(soil.longest);
    }
    bytes
}

fn pick<'a>(all: &'a [Vec<u8>], random: &mut Random) -> &'a [u8] {
    all.get(random.index(all.len())).map_or(&[], Vec::as_slice)
}

fn change(bytes: &mut Vec<u8>, soil: &Soil, random: &mut Random) {
    let at = random.index(bytes.len() + 1);
    match random.below(12) {
        0 => flip(bytes, random),
        1 => {
            let any = random.any().to_le_bytes();
            bytes.splice(at..at, any[..1 + random.index(8)].iter().copied());
        }
        2 => {
            let sign = SIGNS[random.index(SIGNS.len())];
            bytes.insert(at, sign);
        }
        3 => drop(bytes.drain(piece(bytes, random))),
        4 => {
            let copy = bytes[piece(bytes, random)].to_vec();
            bytes.splice(at..at, copy);
        }
        5 => {
            let word = pick(&soil.words, random).to_vec();
            bytes.splice(at..at, word);
        }
        6 => {
            let (piece, word) = (piece(bytes, random), pick(&soil.words, random).to_vec());
            bytes.splice(piece, word);
        }
        7 => {
            let other = pick(&soil.corpus, random);
            let from = random.index(other.len() + 1);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        8 => number(bytes, at, random),
        9 => {
            // What is harmless once may not be so a thousand times.
            let piece = piece(bytes, random);
            let copy = bytes[piece].to_vec();
            let most = (soil.longest / copy.len().max(1)).min(1 << random.below(13));
            bytes.splice(at..at, copy.repeat(most));
        }
        10 => {
            let (cut, end) = (bytes.split_off(at), random.index(bytes.len() + 1));
            let moved = bytes.split_off(end);
            bytes.extend(cut);
            bytes.extend(moved);
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.any().to_le_bytes()[0];
            }
        }
    }
}

fn flip(bytes: &mut [u8], random: &mut Random) {
    let at = random.index(bytes.len());
    let bit = 1 << random.below(8);
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= bit;
    }
}

/// A piece, most often a short one.
fn piece(bytes: &[u8], random: &mut Random) -> Range<usize> {
    let begin = random.index(bytes.len() + 1);
    let most = if random.chance(900) { 16 } else { bytes.len() };
    let end = (begin + random.index(most + 1)).min(bytes.len());
    begin..end
}

/// Puts a number at an edge in the place of the next one, or just there.
fn number(bytes: &mut Vec<u8>, at: usize, random: &mut Random) {
    let edge = EDGES[random.index(EDGES.len())];
    let begin = bytes[at..].iter().position(u8::is_ascii_digit).map_or(at, |offset| at + offset);
    let length = bytes[begin..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    bytes.splice(begin..begin + length, edge.bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_input_and_others_give_others() {
        let corpus = vec![b"kind: Bucket 12".to_vec(), b"name: /a".to_vec()];
        let soil = Soil { corpus, words: vec![b"word".to_vec()], longest: 200, anew: None };
        let inputs: Vec<_> = (1..2_000).map(|seed| input(&soil, seed)).collect();
        assert!(inputs.iter().all(|input| input.len() <= 200));
        assert_eq!(inputs, (1..2_000).map(|seed| input(&soil, seed)).collect::<Vec<_>>());
        let distinct: std::collections::BTreeSet<_> = inputs.iter().collect();
        assert!(distinct.len() > 1_500, "{}", distinct.len());
        assert!(inputs.iter().any(|input| input.windows(4).any(|part| part == b"word")));
        let nothing = Soil { corpus: vec![Vec::new()], words: Vec::new(), longest: 10, anew: None };
        assert!((1..2_000).all(|seed| input(&nothing, seed).len() <= 10), "nothing is no exception");
    }
}
