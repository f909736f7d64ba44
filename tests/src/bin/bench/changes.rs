//! Acknowledged changes per second through the public API, beside etcd, each alone on the machine by turns.
//!
//! Both have three members on loopback that flush each batch to the disk. A change registers a bucket that is not there
//! yet, with a document of 300 bytes; a put writes the same document under the same name. In each round each of both is
//! started anew, on empty disks. Their clients are alike: as many connections, in this process.

use std::sync::Arc;
use std::time::Duration;

use sheaf_model::PutBucket;
use sheaf_tests::{Agent, Cluster, Machine};
use sheaf_wire::Client;
use sheaf_wire::bucket::ApplyBucket;

use crate::ask::{Ask, To};
use crate::beside::Program;
use crate::burst::{self, Burst, Writer};
use crate::etcd::{self, Etcd, EtcdWriter};
use crate::figure::{Figures, Goal, Times, brief, median};
use crate::{scene, tls};

pub(crate) const MEMBERS: usize = 3;
/// Writers share connections, as the parts of a program would.
const CONNECTIONS: usize = 8;
/// Writers, and how many times etcd's rate is to be reached.
const GOALS: [(usize, f64, &str); 3] =
    [(1, 1.0, "not behind etcd"), (64, 2.0, "2 × etcd"), (256, 1.5, "1.5 × etcd")];

/// What every round does.
pub(crate) struct Plan {
    pub(crate) writers: Vec<usize>,
    span: Duration,
    to: To,
}

impl Plan {
    pub(crate) fn of(ask: &Ask) -> Self {
        let span = Duration::from_secs(ask.seconds(5));
        Self { writers: ask.writers(&[1, 64, 256]), span, to: ask.to() }
    }
}

struct SheafWriter {
    client: Client,
    put: PutBucket,
}

impl Writer for SheafWriter {
    async fn write(&mut self, name: String) -> Result<(), String> {
        let mut put = self.put.clone();
        put.spec.name = scene::bucket_name(&name);
        let ask = ApplyBucket { put, request: None, validate_only: false };
        self.client.apply_bucket(ask).await.map(drop).map_err(|error| error.to_string())
    }
}

pub(crate) fn run(ask: &Ask, machine: &Arc<Machine>, figures: &Figures) {
    if ask.tls() {
        return tls::run(ask, machine, figures);
    }
    let plan = Plan::of(ask);
    let etcd = etcd::find();
    match &etcd {
        Ok(program) => figures.note(&format!("compared with {program}; writers ask: {:?}", plan.to)),
        Err(why) => figures.note(&format!("NOT COMPARED with etcd: {why}")),
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 1..=ask.rounds(3) {
        let bursts = sheaf_round(machine, round, &plan);
        told(figures, round, "sheaf", &plan, &bursts);
        ours.push(bursts);
        let Ok(program) = &etcd else { continue };
        match etcd_round(program, machine, round, &plan) {
            Ok(bursts) => {
                told(figures, round, "etcd", &plan, &bursts);
                theirs.push(bursts);
            }
            Err(why) => figures.note(&format!("round {round}: etcd FAILED, no figures of it: {why}")),
        }
    }
    for (index, writers) in plan.writers.iter().enumerate() {
        let of = |rounds: &[Vec<Burst>]| -> Vec<Burst> {
            rounds.iter().map(|bursts| bursts[index].clone()).collect()
        };
        conclude(figures, *writers, &of(&ours), &of(&theirs));
    }
    // Who asks for everything cannot ask for this beside it.
    if ask.name == "all" {
        tls::run(ask, machine, figures);
    }
}

fn sheaf_round(machine: &Arc<Machine>, round: usize, plan: &Plan) -> Vec<Burst> {
    let cluster = scene::cluster(machine, &format!("r{round}-"), MEMBERS);
    let bursts = bursts_on(&cluster, plan, scene::client);
    scene::end(cluster);
    bursts
}

/// One burst after the other; `client` connects to an address.
pub(crate) fn bursts_on(cluster: &Cluster, plan: &Plan, client: impl Fn(&str) -> Client) -> Vec<Burst> {
    let addresses = match plan.to {
        To::Leader => vec![cluster.leader().address()],
        To::All => cluster.agents().iter().map(Agent::address).collect(),
    };
    scene::settle_disk();
    scene::runtime().block_on(async {
        let mut bursts = Vec::new();
        for (number, count) in plan.writers.iter().enumerate() {
            let put = scene::suspended(&burst::name(number, 0, 0));
            let clients: Vec<Client> = connections(*count, &addresses).map(&client).collect();
            let client = |writer: usize| clients[writer % clients.len()].clone();
            let writers =
                (0..*count).map(|writer| SheafWriter { client: client(writer), put: put.clone() }).collect();
            bursts.push(burst::run(writers, number, plan.span).await);
        }
        bursts
    })
}

fn etcd_round(
    program: &Program,
    machine: &Arc<Machine>,
    round: usize,
    plan: &Plan,
) -> Result<Vec<Burst>, String> {
    let mut etcd = Etcd::start(program, machine.place(), round, MEMBERS)?;
    let bursts = scene::runtime().block_on(async {
        let leader = etcd.ready().await?;
        let endpoints = match plan.to {
            To::Leader => vec![leader],
            To::All => etcd.endpoints(),
        };
        scene::settle_disk();
        let mut bursts = Vec::new();
        for (number, count) in plan.writers.iter().enumerate() {
            let value = scene::json_of(&scene::suspended(&burst::name(number, 0, 0)).spec).into_bytes();
            let channels =
                connections(*count, &endpoints).map(etcd::channel).collect::<Result<Vec<_>, _>>()?;
            let channel = |writer: usize| channels[writer % channels.len()].clone();
            let writers = (0..*count).map(|writer| EtcdWriter::new(channel(writer), value.clone())).collect();
            bursts.push(burst::run(writers, number, plan.span).await);
        }
        Ok(bursts)
    });
    etcd.end();
    scene::settle_disk();
    bursts
}

/// Where each connection leads.
fn connections(writers: usize, addresses: &[String]) -> impl Iterator<Item = &str> {
    (0..writers.min(CONNECTIONS)).map(|number| addresses[number % addresses.len()].as_str())
}

pub(crate) fn told(figures: &Figures, round: usize, who: &str, plan: &Plan, bursts: &[Burst]) {
    for (writers, burst) in plan.writers.iter().zip(bursts) {
        let Burst { rate, times, failed, why } = burst;
        let mut line = format!("round {round}: {who}, writers: {writers}: {rate:.0} per s, each {times}");
        if *failed > 0 {
            line.push_str(&format!("; {failed} FAILED, e.g. {}", why.as_deref().unwrap_or_default()));
        }
        figures.note(&line);
    }
}

fn conclude(figures: &Figures, writers: usize, ours: &[Burst], theirs: &[Burst]) {
    let name = format!("writers: {writers}");
    let (our, their) = (middle(ours), middle(theirs));
    let ratio = our.zip(their).map(|(our, their)| our / their.max(f64::MIN_POSITIVE));
    let compared = match ratio {
        Some(ratio) => format!("{}: {ratio:.2} × etcd", rates("etcd", theirs)),
        None => "etcd was NOT MEASURED".to_owned(),
    };
    let figure = format!("{}; {compared}", rates("sheaf", ours));
    match GOALS.iter().find(|(of, ..)| *of == writers) {
        Some((_, factor, text)) => {
            figures.figure(&name, &figure, &Goal { text, reached: ratio.map(|ratio| ratio >= *factor) });
        }
        None => figures.aside(&name, &figure),
    }
}

pub(crate) fn middle(rounds: &[Burst]) -> Option<f64> {
    median(&rounds.iter().map(|burst| burst.rate).collect::<Vec<_>>())
}

/// The median and each round.
pub(crate) fn rates(who: &str, rounds: &[Burst]) -> String {
    let each: Vec<String> = rounds.iter().map(|burst| format!("{:.0}", burst.rate)).collect();
    let latest: Times = rounds.iter().map(|burst| burst.times.percentile(99)).collect();
    let failed: usize = rounds.iter().map(|burst| burst.failed).sum();
    let failed = if failed > 0 { format!(", {failed} FAILED") } else { String::new() };
    format!(
        "{who} {:.0} per s (rounds {}; p99 {}{failed})",
        middle(rounds).unwrap_or(0.0),
        each.join(", "),
        brief(latest.median())
    )
}
