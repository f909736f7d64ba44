//! The benchmarks: how fast, how soon, how much. Each starts what it needs and prints one line for each figure, beside
//! the goal and the machine it was measured on. Nothing is tuned for them: agents run with the product's defaults.
//!
//! `cargo run --release -p sheaf-tests --bin bench -- NAME [OPTIONS]`; `bench list` says which there are.
//!
//! ```text
//!  main ── ask (options) ──► changes ── burst: many writers ──► sheaf, etcd: by turns, each alone; tls: on, off
//!                       ├──► placement, apply, gates, idle, start, failover, storm, objects, modules, push, history,
//!                       │    dashboard, upgrade ── scene: clusters and documents
//!                       ├──► jobs ── scene; hyperqueue: by turns; beside starts and ends it, and etcd
//!                       ├──► deploy ── the binary as it is shipped: package, image, docker-compose
//!                       ├──► simulate, plant ──► the simulation: no agents, virtual time
//!                       ├──► fuzz ──► the targets of `sheaf_tests::fuzz`: no agents either
//!                       └──► figure: lines ◄── machine: cores, load, fsync
//! ```
//!
//! Read `ask`, `figure`, `scene`, then any benchmark.

mod apply;
mod ask;
mod beside;
mod burst;
mod changes;
mod dashboard;
mod deploy;
mod etcd;
mod failover;
mod figure;
mod fuzz;
mod gates;
mod history;
mod hyperqueue;
mod idle;
mod jobs;
mod machine;
mod modules;
mod nemesis;
mod objects;
mod placement;
mod plant;
mod push;
mod scene;
mod simulate;
mod start;
mod storm;
mod tls;
mod upgrade;
mod writes;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;

use sheaf_tests::Machine;

use ask::Ask;
use figure::{Figures, say};

/// A benchmark.
struct Bench {
    name: &'static str,
    about: &'static str,
    run: fn(&Ask, &Arc<Machine>, &Figures),
}

const BENCHES: [Bench; 20] = [
    Bench {
        name: "changes",
        about: "acknowledged changes per second beside etcd  [--rounds 3] [--seconds 5] [--writers 1,64,256] [--to leader|all] [--tls: on against off]",
        run: changes::run,
    },
    Bench {
        name: "placement",
        about: "from apply until it runs: 20 agents multi-node, 5 agents single-node  [--trials 50]",
        run: placement::run,
    },
    Bench {
        name: "apply",
        about: "apply -f with 1,000 buckets through the command line  [--buckets 1000] [--trials 5]",
        run: apply::run,
    },
    Bench {
        name: "gates",
        about: "10,000 buckets: gates of one agent, first page of the list  [--buckets 10000] [--trials 50]",
        run: gates::run,
    },
    Bench {
        name: "idle",
        about: "memory and processor of idle agents, members and others  [--seconds 60]",
        run: idle::run,
    },
    Bench {
        name: "start",
        about: "cold start of a node with 10,000 buckets on disk  [--buckets 10000] [--trials 5]",
        run: start::run,
    },
    Bench {
        name: "failover",
        about: "7 agents: a bucket's node is lost, the leader is killed or hands over, agents restart  [--trials 20] [--at-once 3] [--case PART-OF-NAME]",
        run: failover::run,
    },
    Bench {
        name: "storm",
        about: "5 agents, and 1,000 sessions and watches that lose their leader at once  [--trials 3]",
        run: storm::run,
    },
    Bench {
        name: "objects",
        about: "3 members: compare and set from a module, one and many at a time  [--seconds 5] [--writers 1,64]",
        run: objects::run,
    },
    Bench {
        name: "modules",
        about: "one node: gate 3 of a plugin, 200 keepers of programs and as many of plugins, and their start  [--buckets 1000]",
        run: modules::run,
    },
    Bench {
        name: "push",
        about: "200 MB pushed to 3 members and fetched by 5 agents: how fast, and with how much memory  [--trials 3]",
        run: push::run,
    },
    Bench {
        name: "jobs",
        about: "3 members: submits of a million subtasks, how they are seen; what does nothing, beside HyperQueue, and through workers  [--trials 3] [--rounds 3]",
        run: jobs::run,
    },
    Bench {
        name: "history",
        about: "3 members: a million subtasks that finished, seen, searched, kept and not lost  [--subtasks 1000000] [--trials 3]",
        run: history::run,
    },
    Bench {
        name: "dashboard",
        about: "20 nodes: first pages beside a million subtasks; 3 members: a hundred that are open  [--subtasks 1000000] [--buckets 1000] [--trials 100] [--seconds 20]",
        run: dashboard::run,
    },
    Bench {
        name: "upgrade",
        about: "5 agents of another version become this one, and go back, one by one  [--from BIN: that version]",
        run: upgrade::run,
    },
    Bench {
        name: "deploy",
        about: "how large binary, package and image are; docker-compose with twenty nodes, until all are ready  [--package FILE] [--image NAME] [SHEAF_BIN=target/dist/sheaf]",
        run: deploy::run,
    },
    Bench {
        name: "nemesis",
        about: "7 agents under everything that goes wrong, checked  [--minutes 20] [--seed 1] [--trials 20]",
        run: nemesis::run,
    },
    Bench {
        name: "simulate",
        about: "the engine under every fault: many seeds on all cores, large clusters  [--seeds 500] [--large yes|no|only]",
        run: simulate::run,
    },
    Bench {
        name: "fuzz",
        about: "everything that reads what others wrote, on inputs that nobody would write  [--minutes 1] [--target NAME] [--seed 1000000]",
        run: fuzz::run,
    },
    Bench {
        name: "plant",
        about: "whether the simulation finds each bug planted on purpose, within 2,000 seeds",
        run: plant::run,
    },
];

fn main() -> ExitCode {
    // The program of the nemesis' buckets.
    if let [word, file] = &std::env::args().skip(1).collect::<Vec<_>>()[..]
        && word == "beat"
    {
        return match sheaf_tests::beats::run(file.as_ref()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                say(&format!("{file}: {error}"));
                ExitCode::FAILURE
            }
        };
    }
    // The module of the objects' buckets.
    if std::env::args().nth(1).as_deref() == Some("race") {
        return objects::module();
    }
    let ask = match Ask::parse(std::env::args().skip(1)) {
        Ok(ask) => ask,
        Err(problem) => {
            say(&format!("{problem}\n"));
            list();
            return ExitCode::from(2);
        }
    };
    if ask.name == "list" {
        list();
        return ExitCode::SUCCESS;
    }
    let chosen: Vec<&Bench> =
        BENCHES.iter().filter(|bench| ask.name == "all" || ask.name == bench.name).collect();
    if chosen.is_empty() {
        say(&format!("there is no benchmark {:?}\n", ask.name));
        list();
        return ExitCode::from(2);
    }
    // Each that fails has said why; the others are run all the same.
    let failed = chosen.into_iter().filter(|bench| !measured(bench, &ask)).count();
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn list() {
    for bench in &BENCHES {
        say(&format!("{:10} {}", bench.name, bench.about));
    }
    say(&format!("{:10} all of them, one after the other", "all"));
}

/// Runs a benchmark in a directory of its own; whether it got to its end and everything was kept that must be.
fn measured(bench: &Bench, ask: &Ask) -> bool {
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let machine = Arc::new(Machine::take());
        let figures = Figures::on(bench.name, machine::look(machine.place()));
        (bench.run)(ask, &machine, &figures);
        figures.broken()
    }));
    match ended {
        Ok(broken) if broken.is_empty() => true,
        Ok(broken) => {
            say(&format!("{}: FAILED, as no such figure may be short: {}", bench.name, broken.join("; ")));
            false
        }
        Err(_) => {
            say(&format!(
                "{}: FAILED, for the reason above; what is missing of its figures was not measured",
                bench.name
            ));
            false
        }
    }
}
