//! `changes --tls`, and a part of `all`: the same changes on secured clusters and on such that are not, by turns, each alone on the machine.
//!
//! What is compared is all that securing costs: TLS between members and towards clients, certificates, and a token with each
//! call.

use std::path::Path;
use std::sync::Arc;

use sheaf_model::TokenText;
use sheaf_tests::{Machine, secured};
use sheaf_wire::{Client, Credentials, Options, Pin, Transport};

use crate::ask::Ask;
use crate::burst::Burst;
use crate::changes::{MEMBERS, Plan, bursts_on, middle, rates, told};
use crate::figure::{Figures, Goal};
use crate::scene;

/// What of the rate without TLS is to be reached with it.
const LEAST: f64 = 0.85;

pub(crate) fn run(ask: &Ask, machine: &Arc<Machine>, figures: &Figures) {
    let plan = Plan::of(ask);
    let secret = secured::secret(machine, "join.secret");
    let (mut on, mut off) = (Vec::new(), Vec::new());
    for round in 1..=ask.rounds(3) {
        // Who comes first changes: a machine gets warm, and a disk full.
        let turns = if round % 2 == 1 { [false, true] } else { [true, false] };
        for with in turns {
            if with {
                let bursts = round_on(machine, &secret, round, &plan);
                told(figures, round, "TLS on", &plan, &bursts);
                on.push(bursts);
            } else {
                let cluster = scene::cluster(machine, &format!("p{round}-"), MEMBERS);
                let bursts = bursts_on(&cluster, &plan, scene::client);
                scene::end(cluster);
                told(figures, round, "TLS off", &plan, &bursts);
                off.push(bursts);
            }
        }
    }
    for (index, writers) in plan.writers.iter().enumerate() {
        let of = |rounds: &[Vec<Burst>]| -> Vec<Burst> {
            rounds.iter().map(|bursts| bursts[index].clone()).collect()
        };
        conclude(figures, *writers, &of(&on), &of(&off));
    }
}

fn round_on(machine: &Arc<Machine>, secret: &Path, round: usize, plan: &Plan) -> Vec<Burst> {
    let (cluster, token) = scene::secured(machine, &format!("s{round}-"), MEMBERS, secret);
    let bursts = bursts_on(&cluster, plan, |address| client(address, &token));
    scene::end(cluster);
    // The next cluster knows no tokens.
    secured::shows(machine, None);
    bursts
}

/// A client that shows the token, over TLS with the authority that it pins; made within a runtime.
fn client(address: &str, token: &TokenText) -> Client {
    let pinned = token.pin().expect("login writes what it pins");
    let pin: Pin = Arc::new(move |der: &[u8]| sheaf_seal::sha256(der) == pinned);
    let transport = Transport::tls(&Credentials { pin: Some(pin), ..Credentials::default() });
    let transport = transport.expect("a pin is all that it takes");
    let options = Options { token: Some(token.clone().into()), transport, ..Options::default() };
    Client::lazy(address, options).expect("an agent's address is one")
}

fn conclude(figures: &Figures, writers: usize, on: &[Burst], off: &[Burst]) {
    let ratio = middle(on).zip(middle(off)).map(|(on, off)| on / off.max(f64::MIN_POSITIVE));
    let compared = ratio.map_or_else(|| "NOT MEASURED".to_owned(), |ratio| format!("{ratio:.2} × TLS off"));
    let figure = format!("{}; {}: {compared}", rates("TLS on", on), rates("TLS off", off));
    let goal = Goal { text: "at most 15 % less with TLS", reached: ratio.map(|ratio| ratio >= LEAST) };
    figures.figure(&format!("TLS, writers: {writers}"), &figure, &goal);
}
