//! The engine of production under every fault, in virtual time and one thread.
//!
//! Everything that decides is [`sheaf_engine`] itself: the state machine, the leader's sessions and steward, the node,
//! its leases, the keeper, what watches say, the invariants. What is simulated is what surrounds it: clocks, disks,
//! processes, the network, the replicated log, and the thin shells, which do here what the shells of the product do.
//!
//! ```text
//!  clients ──Ask──► voters ──raft──► committed entries ──apply──► truth: epochs, invariants, equal replicas
//!                     │ leader: sessions, rounds, steward
//!       ┌─session─────┤ ┌──────────watch──────────┘
//!       ▼             ▼ ▼
//!     agents ──node::step──► executor ──► keepers ──Keep::step──► programs ──► lives: nothing overlaps
//!       ▲                                    ▲                       ▲
//!       └────────── faults: crash, pause, freeze, cut, delay, drift, slow ──────── until healed, then judge
//! ```
//!
//! Read in this order: [`Plan`] and [`Outcome`], `world` (the loop), `event`, `raft` and `voter`, `leader`, `agent` with
//! `link`, `executor`, `leaving` and `stand_in`, `keeper`, `work` with `floor`, `machine`, `client`, `owner`, `operator`, `faults`,
//! `storms`, `hunts`; what is checked: `truth`, `history`, `lives`, `allowed`, `judge`. `contact` is for planted bugs only.
//!
//! What must hold, and where that is looked at; [`Rule`] has the same numbers:
//!
//! | | looked at |
//! | --- | --- |
//! | 1 no two instances of a single-node bucket overlap | whenever a program begins or goes on (`lives`) |
//! | 2 epochs grow, and nothing runs under another one than was bound | with each binding (`truth`) and each program that begins (`lives`) |
//! | 3 nothing is started where the last conclusive check said no, or goes on where the rules, the config or the module refuse | with each start (`executor`), and all along (`allowed`) |
//! | 4 with a quorum and an available node everything runs | within a bound after the last fault (`judge`) |
//! | 5 a multi-node bucket runs once on each available node | twice on one: as 1; everywhere: as 4 |
//! | 6 what was acknowledged is not lost | by each new leader's first entry, and in the end (`voter`, `client`, `judge`) |
//! | an attempt is granted once and begun once, by whom it was granted to; a subtask has one success, or ends otherwise | with each entry (`history`), with each that begins (`work`), in the end (`owner`) |
//! | agents are heard as often as the settings say now | in the end (`judge`) |
//! | what runs is on record as running, and what is on record as running runs | in the end (`judge`) |
//! | what goes on elsewhere leaves nothing on a disk | in the end (`judge`) |
//! | nothing is removed that is still there, or by a state from before it was started | with each farewell (`executor`) |
//! | the replicated state keeps its own rules, and is the same on all | with each entry (`truth`, `voter`) |
//!
//! `tests/simulation/tests/holes.rs` says what shows that each known way to run a bucket twice is closed.
//!
//! The same seed and plan give the same [`Outcome`], trace included. Not simulated: changes of the voters, a
//! cluster founded anew, and what the manual documents as not provable, which is excused where it happens (a machine
//! whose clock stood still, one that was paused beyond a lease) or not done (keeper and agent paused together).

pub mod clock;
pub mod outcome;
pub mod plan;
pub mod random;

mod agent;
mod allowed;
mod begin;
mod client;
mod contact;
mod event;
mod executor;
mod faults;
mod floor;
mod history;
mod hunts;
mod judge;
mod keeper;
mod leader;
mod leaving;
mod link;
mod lives;
mod machine;
mod network;
mod operator;
mod owner;
mod queue;
mod raft;
mod stand_in;
mod storms;
mod truth;
mod voter;
mod work;
mod world;

pub use outcome::{Counts, Outcome, Rule, Violation, Wrong};
pub use plan::{Plan, Planted};

/// Runs one seed to its end, or to the first broken rule.
pub fn run(seed: u64, plan: &Plan) -> Outcome {
    world::World::new(seed, plan.clone()).run()
}
