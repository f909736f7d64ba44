//! A plugin that does what modules should not, as its first argument or its bucket's config says. For tests only.
#![expect(clippy::print_stdout, reason = "what a module prints is the output of its bucket")]

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use sheaf_module::{Bucket, CanRun, Context, Difference, Failure, Job, Module, Node, Subtask, Taken, serve};

struct Faulty;

/// What it does when it is told to stop; OnStop names no bucket.
static AT_STOP: OnceLock<String> = OnceLock::new();
/// Whom it works for.
static JOB: OnceLock<Job> = OnceLock::new();

impl Module for Faulty {
    async fn can_run_on_this_node(&self, bucket: Bucket, node: Node) -> Result<CanRun, Failure> {
        match told(&bucket, "gate").as_str() {
            "no" => Ok(CanRun::No(format!("{} lacks what it takes", node.name))),
            "fail" => Err(Failure::new("the answer is unknown")),
            "panic" => panic!("gate of {}", bucket.name),
            fault => act(fault).await.map(|()| CanRun::Yes),
        }
    }

    async fn on_init(&self, context: Context) -> Result<(), Failure> {
        let bucket = &context.instance().bucket;
        let _ = AT_STOP.set(told(bucket, "stop")); // once is all it is told
        act(&told(bucket, "init")).await
    }

    async fn on_new_source(&self, bucket: Bucket) -> Result<(), Failure> {
        println!("new source {}", bucket.name);
        act(&told(&bucket, "start")).await
    }

    async fn on_resume(&self, bucket: Bucket) -> Result<(), Failure> {
        println!("resumed {}", bucket.name);
        Ok(())
    }

    async fn on_updated_source(
        &self,
        old: Bucket,
        new: Bucket,
        differences: Vec<Difference>,
    ) -> Result<Taken, Failure> {
        for it in differences {
            let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
            println!("{} {} {}", it.path, text(it.before_json), text(it.after_json));
        }
        assert!(old.revision < new.revision, "{} {}", old.revision, new.revision);
        match told(&new, "update").as_str() {
            "restart" => Ok(Taken::Restart),
            fault => act(fault).await.map(|()| Taken::Live),
        }
    }

    async fn on_periodic_poll(&self, bucket: Bucket) -> Result<(), Failure> {
        println!("polled {}", bucket.name);
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        act(&told(&bucket, "poll")).await
    }

    async fn on_purge(&self) -> Result<(), Failure> {
        println!("purged");
        Ok(())
    }

    async fn on_test_source(
        &self,
        bucket: Bucket,
        max_objects: u64,
        _max_time: Duration,
    ) -> Result<(), Failure> {
        act(&told(&bucket, "test")).await?;
        for n in 0..max_objects {
            println!("object {n} of {}", bucket.name);
        }
        Ok(())
    }

    async fn on_suspend(&self) -> Result<(), Failure> {
        println!("suspended");
        Ok(())
    }

    async fn on_delete(&self) -> Result<(), Failure> {
        leave_word("deleted")
    }

    async fn on_job(&self, job: Job) -> Result<(), Failure> {
        println!("works for {}", job.name);
        let _ = JOB.set(job); // a process works for one
        act(&std::env::var("FAULTY_JOB").unwrap_or_default()).await
    }

    /// As many as FAULTY_AT_ONCE says, or else two.
    fn at_once(&self) -> u32 {
        std::env::var("FAULTY_AT_ONCE").ok().and_then(|said| said.parse().ok()).unwrap_or(2)
    }

    /// Leaves a line `JOB SUBTASK ATTEMPT NODE PID` in the file that FAULTY_TRACE names, then does what its item says; of an
    /// array's number nothing.
    async fn on_subtask(&self, subtask: Subtask) -> Result<(), Failure> {
        trace(&subtask)?;
        let item: Value = subtask.item()?;
        match item["do"].as_str().unwrap_or_default() {
            "say" => {
                subtask.print("one").await;
                subtask.print_error("two").await;
                Ok(())
            }
            "stuck" => loop {
                std::thread::park(); // and with it the whole process
            },
            "fail then well" if subtask.attempt < 3 => Err(Failure::new("not yet, at /tmp/a7")),
            "fail then well" => Ok(()),
            "secret" => {
                let name = item["name"].as_str().unwrap_or_default();
                let job = JOB.get().ok_or("no job")?;
                let secret = job.secret(name).await?;
                subtask.print(format!("{name} is {}", secret.text().unwrap_or("no text"))).await;
                Ok(())
            }
            "backend" => Err(Failure::of_backend("status 503")),
            "sleep" => {
                tokio::time::sleep(Duration::from_millis(item["ms"].as_u64().unwrap_or_default())).await;
                Ok(())
            }
            fault => act(fault).await,
        }
    }

    async fn on_decommission(&self) -> Result<(), Failure> {
        leave_word("decommissioned")
    }

    async fn on_stop(&self) -> Result<(), Failure> {
        println!("told to stop");
        act(AT_STOP.get().map_or("", String::as_str)).await
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let how = args.next().unwrap_or_default();
    // Only as a bucket's own process, or a job's worker: gate 3 is answered well.
    let unless = args.next().and_then(|own| match own.as_str() {
        "instance" => Some(sheaf_module::CONTEXT),
        "worker" => Some("SHEAF_JOB"),
        _ => None,
    });
    let is_well = unless.is_some_and(|variable| std::env::var_os(variable).is_none());
    let how = if is_well { String::new() } else { how };
    let socket = std::env::var_os(sheaf_module::SOCKET).unwrap_or_default();
    let listen = || UnixListener::bind(&socket).expect("the socket can be made");
    match how.as_str() {
        "exit" => {
            eprintln!("no mood today");
            return ExitCode::from(7);
        }
        "deaf" => std::future::pending().await,
        "silent" => {
            let _kept = listen();
            std::future::pending::<()>().await;
        }
        "garbage" => {
            let listener = listen();
            let mut kept = Vec::new();
            while let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n");
                kept.push(stream);
            }
        }
        "version" => speak(&listen(), b"\x00\x00\x07\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x02\x08\x09", 0),
        "large" => speak(&listen(), b"\x00\x00\x05\x00\x00\x00\x00\x00\x01\x00\x06\x40\x00\x00", 100 << 20),
        _ => {}
    }
    match serve(Faulty).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Answers Hello with a frame of data and `more` bytes after it, in bare HTTP/2: protocol 9, or a message of 100 MiB, all of which
/// is sent whether anybody wants it or not. The SDK would say neither.
fn speak(listener: &UnixListener, message: &[u8], more: usize) {
    // A frame of data as long as it may be.
    let frame = [b"\x00\x40\x00\x00\x00\x00\x00\x00\x01".as_slice(), &[b'x'; 16 << 10]].concat();
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    // Frames of stream 1: `:status: 200` and `content-type: application/grpc`; `grpc-status: 0`.
    let headers =
        [b"\x00\x00\x14\x01\x04\x00\x00\x00\x01\x88\x0f\x10\x10".as_slice(), b"application/grpc"].concat();
    let trailers =
        [b"\x00\x00\x0f\x01\x05\x00\x00\x00\x01\x00\x0b".as_slice(), b"grpc-status", b"\x010"].concat();
    for mut stream in listener.incoming().flatten() {
        let mut answer = || -> std::io::Result<()> {
            stream.write_all(SETTINGS)?;
            stream.read_exact(&mut [0; 24])?; // the preface
            loop {
                let mut head = [0; 9];
                stream.read_exact(&mut head)?;
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                stream.read_exact(&mut vec![0; length])?;
                match (head[3], head[4] & 1) {
                    (4, 0) => stream.write_all(&[0, 0, 0, 4, 1, 0, 0, 0, 0])?, // settings: acknowledged
                    // The end of the request.
                    (0, 1) => {
                        stream.write_all(&[headers.as_slice(), message].concat())?;
                        for _ in 0..more >> 14 {
                            stream.write_all(&frame)?;
                        }
                        stream.write_all(&trailers)?;
                    }
                    _ => {}
                }
            }
        };
        // Whoever only looks whether somebody listens has closed it again.
        let _closed = answer();
    }
}

fn trace(subtask: &Subtask) -> Result<(), Failure> {
    let Some(path) = std::env::var_os("FAULTY_TRACE") else { return Ok(()) };
    let (job, node) = (std::env::var("SHEAF_JOB")?, std::env::var("SHEAF_NODE")?);
    let line = format!("{job} {} {} {node} {}\n", subtask.number, subtask.attempt, std::process::id());
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
    Ok(file.write_all(line.as_bytes())?)
}

/// A field of the bucket's config; empty if it is not there.
fn told(bucket: &Bucket, field: &str) -> String {
    let config: Value = bucket.config().unwrap_or_default();
    config[field].as_str().unwrap_or_default().to_owned()
}

/// Beside the data directories, for what is said when nothing of the instance stays.
fn leave_word(word: &str) -> Result<(), Failure> {
    let name = std::env::var("SHEAF_BUCKET")?.replace('/', "+");
    let dir = std::env::var("SHEAF_DIR")?;
    let above = std::path::Path::new(&dir).ancestors().nth(4).ok_or("no such directory")?;
    let node = std::env::var("SHEAF_NODE")?;
    Ok(std::fs::write(above.join(format!("word{name}.{node}")), word)?)
}

async fn act(fault: &str) -> Result<(), Failure> {
    match fault {
        "" => Ok(()),
        "hang" => std::future::pending().await,
        "crash" => {
            eprintln!("famous last words");
            std::process::abort()
        }
        "flood" => {
            let line = "x".repeat(1023) + "\n";
            for _ in 0..100 << 10 {
                print!("{line}"); // 100 MiB
            }
            Ok(())
        }
        "detach" => {
            let child = std::process::Command::new("setsid").args(["sleep", "100000"]).spawn()?;
            println!("detached {}", child.id());
            Ok(())
        }
        text => Err(Failure::new(text)),
    }
}
