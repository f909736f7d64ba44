//! Deliveries of a cluster of one, to a receiver that says yes to everything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sheaf_engine::sink::Sink;
use sheaf_engine::{Command, Proposal, SinkCommand};
use sheaf_model::{
    Actor, Confided, HistorySettings, Mail, MailSecurity, Moment, SinkFilter, SinkName, SinkSpec, SinkTarget,
    Span, Timestamp, Webhook,
};
use sheaf_store::Store;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::Control;
use crate::clock::Clock;
use crate::place::Member;
use crate::propose::tests::One;

struct Real;

impl Clock for Real {
    fn moment(&self) -> Moment {
        Moment(self.wall().0)
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_system(std::time::SystemTime::now())
    }
}

/// What a receiver heard, as it came.
type Heard = Arc<Mutex<Vec<String>>>;

async fn receive(listener: TcpListener, heard: Heard) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { return };
        let mut text = String::new();
        let mut buffer = vec![0; 1 << 16];
        while !text.ends_with("]}") {
            match stream.read(&mut buffer).await {
                Ok(n @ 1..) => text.push_str(&String::from_utf8_lossy(&buffer[..n])),
                _ => break,
            }
        }
        heard.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    }
}

/// A mail server that notes whom it took each mail for, takes none for `late` before somebody has one, and never says goodbye.
async fn take_mails(listener: TcpListener, heard: Heard) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        tokio::spawn(take_mail(stream, heard.clone()));
    }
}

async fn take_mail(stream: TcpStream, heard: Heard) {
    let heard = || heard.lock().unwrap_or_else(PoisonError::into_inner);
    let (lines, mut answers) = stream.into_split();
    let mut lines = BufReader::new(lines).lines();
    let (mut to, mut in_mail) = (Vec::<String>::new(), false);
    let _ = answers.write_all(b"220 hello\r\n").await;
    while let Ok(Some(line)) = lines.next_line().await {
        let answer = match line.as_str() {
            "." => {
                in_mail = false;
                heard().push(to.join(" "));
                "250 taken"
            }
            _ if in_mail => continue,
            "QUIT" => continue,
            "DATA" => {
                in_mail = true;
                "354 go on"
            }
            "RCPT TO:<late@example.org>" if heard().is_empty() => "450 come back",
            line => {
                to.extend(line.strip_prefix("RCPT TO:").map(str::to_owned));
                "250 well"
            }
        };
        let _ = answers.write_all(format!("{answer}\r\n").as_bytes()).await;
    }
}

fn name(text: &str) -> SinkName {
    SinkName::new(text).expect("a name")
}

fn spec(sink: &str, url: &str) -> SinkSpec {
    let webhook = Webhook {
        url: Confided::Plain(url.to_owned()),
        secret: None,
        timeout: Span::seconds(5),
        batch: 2,
        ca: None,
    };
    SinkSpec {
        name: name(sink),
        target: SinkTarget::Webhook(webhook),
        filter: SinkFilter { subjects: vec!["other-*".to_owned()], ..SinkFilter::default() },
        suspended: false,
        labels: BTreeMap::new(),
        owner: None,
    }
}

async fn put(member: &Member, spec: SinkSpec) {
    let proposal = Proposal {
        actor: Actor::from("test"),
        at: Real.wall(),
        request: None,
        command: Command::Sink(SinkCommand::Put(Arc::new(spec))),
    };
    member.replica.propose(&proposal).await.expect("registered");
}

fn sink(member: &Member) -> Arc<Sink> {
    member.replica.state().sinks[&name("ours")].clone()
}

/// Delivers until it is so.
async fn deliver_until(control: &Control, member: &Member, is_so: impl Fn() -> bool) {
    let term = member.replica.leadership().borrow().term;
    let begun = Instant::now();
    let seen = async {
        while !is_so() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", sink(member));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = control.run_sinks(member, term) => {}
        () = seen => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_delivered_in_order_and_what_was_dropped_is_said() {
    let one = One::formed().await;
    let (member, control) = (one.member.clone(), one.control(Arc::new(Real)));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("it has one"));
    let heard = Heard::default();
    let receiving = tokio::spawn(receive(listener, heard.clone()));

    put(&member, spec("ours", &url)).await;
    // Others that never deliver, for their events.
    for n in 0..5 {
        let other = SinkSpec { suspended: true, ..spec(&format!("other-{n}"), "http://127.0.0.1:1/") };
        put(&member, other).await;
    }
    deliver_until(&control, &member, || sink(&member).delivered == 5).await;
    let texts = heard.lock().expect("no panic").clone();
    assert_eq!(texts.len(), 3, "two at a time: {texts:#?}");
    let all = texts.concat();
    let places: Vec<usize> =
        (0..5).map(|n| all.find(&format!("other-{n}")).expect("it was delivered")).collect();
    assert!(places.is_sorted(), "{places:?}");
    assert_eq!((sink(&member).missed, sink(&member).failing.clone()), (0, None));

    // While nobody delivers, history goes on, and is dropped.
    for n in 0..5 {
        let other = SinkSpec { suspended: true, ..spec(&format!("other-{n}"), "http://127.0.0.1:2/") };
        put(&member, other).await;
    }
    let now = member.replica.state().revision;
    member.replica.stored(now).await;
    let mut store = Store::open(&one.dir.path().join(sheaf_consensus::DATABASE)).expect("the same database");
    let retention = HistorySettings { age: Span::seconds(1 << 30), events: 2 };
    store.prune(&retention, Real.wall()).expect("pruned");
    deliver_until(&control, &member, || sink(&member).missed == 1 && sink(&member).delivered == 7).await;
    let last = sink(&member);
    let (after, to) = last.missed_last.expect("it is said what");
    assert!(after < to && to < now, "{last:?}");
    receiving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_comes_once_to_each_though_one_is_put_off_and_the_server_says_no_goodbye() {
    let one = One::formed().await;
    let (member, control) = (one.member.clone(), one.control(Arc::new(Real)));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let server = listener.local_addr().expect("it has one").to_string();
    let heard = Heard::default();
    let receiving = tokio::spawn(take_mails(listener, heard.clone()));

    let mail = Mail {
        server,
        security: MailSecurity::None,
        user: None,
        password: None,
        from: "sheaf@example.org".to_owned(),
        to: ["early", "late"].map(|who| format!("{who}@example.org")).to_vec(),
        digest: Span::millis(100),
        timeout: Span::seconds(20),
        ca: None,
    };
    put(&member, SinkSpec { target: SinkTarget::Mail(mail), ..spec("ours", "http://127.0.0.1:1/") }).await;
    for n in 0..3 {
        let other = SinkSpec { suspended: true, ..spec(&format!("other-{n}"), "http://127.0.0.1:1/") };
        put(&member, other).await;
    }
    deliver_until(&control, &member, || sink(&member).delivered == 3).await;
    let taken = heard.lock().expect("no panic").clone();
    assert_eq!(taken, ["<early@example.org>", "<late@example.org>"]);
    receiving.abort();
}
