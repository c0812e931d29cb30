//! Ten thousand clients that do nothing. Server and clients run in processes of their own: this test binary, again.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use kes_testkit::{Credentials, RawConnection, TestClient, TestServer};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const CONNECTIONS: usize = 10_000;
/// Descriptors that a process needs besides.
const SPARE: u64 = 200;
/// Most resident bytes of the server for a connection that is idle.
const MOST_BYTES: u64 = 64 << 10;
/// How long the whole test may take.
const DEADLINE: Duration = Duration::from_secs(1200);
/// Tells the process what it is: `server`, or the address that the clients connect to.
const ROLE: &str = "KES_TEST_IDLE_CONNECTIONS";
/// What lines between the processes begin with, since the test harness prints as well.
const MARK: &str = "idle-connections: ";

/// A process with one half of the test, ended with the test.
struct Half {
    process: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    deadline: Instant,
}

impl Half {
    fn start(role: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["load::one_half", "--exact", "--nocapture"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some((_, line)) = line.split_once(MARK) {
                    _ = sender.send(line.to_owned());
                }
            }
        });
        Self {
            input: process.stdin.take(),
            process,
            lines,
            deadline: Instant::now() + DEADLINE,
        }
    }

    fn says(&self) -> String {
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.lines
            .recv_timeout(left)
            .expect("the other process answers in time")
    }

    fn tell(&mut self) {
        self.input.as_mut().unwrap().write_all(b"go on\n").unwrap();
    }

    /// Resident bytes.
    fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib << 10
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

#[test]
fn ten_thousand_idle_connections_cost_little_and_stay_open() {
    let server = Half::start("server");
    let address = server.says();
    let mut clients = Half::start(&address);
    assert_eq!(clients.says(), "warm");
    let before = server.resident();
    clients.tell();
    assert_eq!(clients.says(), "connected");
    let each = server.resident().saturating_sub(before) / CONNECTIONS as u64;
    println!("an idle connection takes {each} bytes of the server");
    clients.tell();
    assert_eq!(clients.says(), "answered");
    assert!(each < MOST_BYTES, "{each} bytes a connection");
    assert!(each > 0);
}

/// Does nothing unless it runs as one half of the test above.
#[test]
fn one_half() {
    let Ok(role) = std::env::var(ROLE) else { return };
    raise_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    match role.as_str() {
        "server" => runtime.block_on(serve()),
        address => runtime.block_on(connect(address.parse().unwrap())),
    }
}

fn raise_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let needed = CONNECTIONS as u64 + SPARE;
    let enough = limit.maximum.is_none_or(|hard| hard >= needed);
    assert!(
        enough,
        "this test needs a hard limit of {needed} open files (ulimit -Hn), not {:?}",
        limit.maximum
    );
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

fn say(text: &str) {
    println!("{MARK}{text}");
}

async fn told() {
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    assert!(!line.await.unwrap().unwrap().is_empty(), "the test is over");
}

async fn serve() {
    let mut server = TestServer::default();
    server.settings.limits.header_timeout = DEADLINE;
    server.settings.limits.idle_timeout = DEADLINE;
    let running = server.start().await;
    say(&running.address().to_string());
    // Until the test ends the process, or ends itself.
    told().await;
}

async fn connect(address: SocketAddr) {
    let credentials = Credentials::self_signed("client");
    let at_once = Arc::new(Semaphore::new(32));
    // The first connections make the server allocate what it has once.
    let mut kept = open(address, &credentials, &at_once, 200).await;
    say("warm");
    told().await;
    kept.extend(open(address, &credentials, &at_once, CONNECTIONS).await);
    say("connected");
    told().await;
    for connection in kept.iter_mut().step_by(100) {
        connection
            .write("GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        assert_eq!(connection.answer().await.status, 200);
    }
    say("answered");
    told().await;
}

async fn open(
    address: SocketAddr,
    credentials: &Credentials,
    at_once: &Arc<Semaphore>,
    count: usize,
) -> Vec<RawConnection> {
    let mut opening = JoinSet::new();
    for _ in 0..count {
        // A client of its own for each, so that no session is resumed.
        let client = TestClient::with_versions(address, Some(credentials), &[&rustls::version::TLS13]);
        let place = Arc::clone(at_once).acquire_owned().await.unwrap();
        opening.spawn(async move {
            let mut connection = client.raw().await;
            connection
                .write("GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .await;
            assert_eq!(connection.answer().await.status, 200);
            drop(place);
            connection
        });
    }
    opening.join_all().await
}
