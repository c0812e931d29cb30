//! Replays a transcript: sends each request byte by byte as it is written, and compares the answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use kes_server::{PolicySettings, RouteSettings};
use kes_testkit::{Credentials, Failure, FaultyStore, PATIENCE, Protocol, Running, TestServer, admin, app};
use kes_types::{Rule, Verb};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::format::{Expected, Header, Setup, Transcript, What};
use super::shape::{Captures, key_name, repeat};

/// Plays the client of a transcript against a server of its own.
pub(super) async fn replay(name: &str, text: &str) {
    let Transcript { setup, steps } = Transcript::parse(text);
    let (running, store) = start(&setup).await;
    let mut captures = Captures::default();
    captures.set("admin", admin().identity().as_str());
    captures.set("app", app().identity().as_str());
    let mut connections: BTreeMap<String, Connection> = BTreeMap::new();
    let mut speaker = String::new();

    for at in 0..steps.len() {
        let line = steps[at].line;
        let here = |problem: String| -> ! { panic!("{name}, line {line}: {problem}") };
        let done = match &steps[at].what {
            What::Speaker(who) => {
                speaker.clone_from(who);
                if !connections.contains_key(who) {
                    connections.insert(who.clone(), Connection::open(&running, who).await);
                }
                continue;
            }
            What::Store(state) => {
                match state.as_str() {
                    "works" => store.heal(),
                    "cannot be reached" => store.fail(Failure::Unreachable),
                    "fails" => store.fail(Failure::Backend),
                    _ => here(format!("the store cannot be {state}")),
                }
                continue;
            }
            What::Send(lines) => {
                let body = match steps.get(at + 2).map(|step| &step.what) {
                    Some(What::Send(body)) if continues(&steps[at + 1].what) => Some(body.as_slice()),
                    _ => None,
                };
                let connection = connections.get_mut(&speaker).expect("somebody speaks");
                tokio::time::timeout(PATIENCE, connection.send(lines, body, &mut captures)).await
            }
            What::Answer(expected) => {
                let connection = connections.get_mut(&speaker).expect("somebody speaks");
                tokio::time::timeout(PATIENCE, connection.receive(expected, &mut captures)).await
            }
            What::Event(event) => {
                let connection = connections.get_mut(&speaker).expect("somebody speaks");
                tokio::time::timeout(PATIENCE, connection.event(event, &mut captures)).await
            }
            What::Closed => {
                let mut connection = connections.remove(&speaker).expect("somebody speaks");
                tokio::time::timeout(PATIENCE, async move { connection.closed().await }).await
            }
        };
        match done {
            Ok(Ok(())) => {}
            Ok(Err(problem)) => here(problem),
            Err(_) => here("nothing came".to_owned()),
        }
    }
    for (who, connection) in connections {
        assert!(
            connection.received.is_empty() || connection.is_streaming,
            "{name}: {who} got more than all answers"
        );
    }
}

fn continues(what: &What) -> bool {
    matches!(what, What::Answer(Expected { status: 100, .. }))
}

async fn start(setup: &Setup) -> (Running, FaultyStore) {
    let Setup {
        allow,
        deny,
        open,
        keys,
        records,
    } = setup;
    let store = FaultyStore::new();
    for number in 0..*keys {
        store.put(&key_name(number), b"only listed, never read");
    }
    for (name, record) in records {
        store.put(name, record.as_bytes());
    }
    let mut server = TestServer::over(Arc::new(store.clone()));
    let rules = |rules: &[String]| {
        rules
            .iter()
            .map(|rule| Rule::parse(rule).expect("a rule"))
            .collect()
    };
    if !allow.is_empty() || !deny.is_empty() {
        let PolicySettings { policy, .. } = &mut server.settings.policies[0];
        policy.allow = rules(allow);
        policy.deny = rules(deny);
    }
    for path in open {
        let verb = Verb::ALL.into_iter().find(|verb| verb.path() == path);
        let settings = RouteSettings {
            skip_auth: true,
            timeout: None,
        };
        server.settings.routes.insert(verb.expect("a route"), settings);
    }
    (server.start().await, store)
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection that is kept until the server closes it.
struct Connection {
    stream: Box<dyn Stream>,
    received: Vec<u8>,
    /// The method of the request that is being answered.
    method: String,
    is_streaming: bool,
    /// Whether a body is announced, and if so, whether it comes in chunks.
    announced: Option<bool>,
}

/// An answer as it came.
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Connection {
    /// Opens a connection of whoever stands before the `/`; what stands behind it tells several of theirs apart.
    async fn open(running: &Running, who: &str) -> Self {
        let who = who.split('/').next().unwrap_or_default();
        let client = match who {
            "admin" => running.admin(),
            "app" => running.app(),
            "a stranger" => running.client(&Credentials::self_signed("stranger")),
            "two clients at once" => running
                .client(&Credentials::self_signed("one").followed_by(&[&Credentials::self_signed("two")])),
            "nobody" | "plaintext" => running.anonymous(),
            _ => panic!("{who} is nobody whom transcripts know"),
        };
        let stream: Box<dyn Stream> = if who == "plaintext" {
            Box::new(
                TcpStream::connect(running.address())
                    .await
                    .expect("the server listens"),
            )
        } else {
            let client = client.over(Protocol::Http1);
            Box::new(client.tls().await.expect("the handshake succeeds"))
        };
        Self {
            stream,
            received: Vec::new(),
            method: String::new(),
            is_streaming: false,
            announced: None,
        }
    }

    /// Sends a request, or a body that follows later. `later` is the body that will follow this head.
    async fn send(
        &mut self,
        lines: &[String],
        later: Option<&[String]>,
        captures: &mut Captures,
    ) -> Result<(), String> {
        if !self.received.is_empty() {
            return Err("something came that nobody asked for".to_owned());
        }
        if let Some(is_chunked) = self.announced.take() {
            return self.write(&body_of(lines, is_chunked, captures)).await;
        }
        let end = lines.iter().position(String::is_empty);
        let (head, body) = lines.split_at(end.ok_or("a head ends with an empty line")?);
        let is_chunked = head
            .iter()
            .any(|line| line.eq_ignore_ascii_case("transfer-encoding: chunked"));
        let body = body_of(later.unwrap_or(&body[1..]), is_chunked, captures);
        captures.set("length", body.len().to_string());
        let mut request: String = head.iter().map(|line| captures.fill(line) + "\r\n").collect();
        self.method = request.split(' ').next().unwrap_or_default().to_owned();
        request.push_str("\r\n");
        if later.is_some() {
            self.announced = Some(is_chunked);
            return self.write(request.as_bytes()).await;
        }
        self.write(&[request.as_bytes(), &body].concat()).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream
            .write_all(bytes)
            .await
            .map_err(|error| error.to_string())?;
        self.stream.flush().await.map_err(|error| error.to_string())
    }

    /// Reads an answer and compares it.
    async fn receive(&mut self, expected: &Expected, captures: &mut Captures) -> Result<(), String> {
        let mut answer = self.head().await?;
        self.is_streaming = expected.endless;
        if !expected.endless && answer.status >= 200 {
            answer.body = self.body(&answer).await?;
        }
        compare(expected, &answer, self.method == "HEAD", captures)
            .map_err(|problem| format!("{problem}\n{}", answer.show()))
    }

    /// Reads events until one is as expected.
    async fn event(&mut self, expected: &str, captures: &mut Captures) -> Result<(), String> {
        let expected: Value = serde_json::from_str(expected).map_err(|error| error.to_string())?;
        let mut text = String::new();
        loop {
            let chunk = self.chunk().await?.ok_or("the stream ended")?;
            text.push_str(&String::from_utf8(chunk).map_err(|error| error.to_string())?);
            while let Some((event, rest)) = text.split_once('\n') {
                let event: Value =
                    serde_json::from_str(event).map_err(|error| format!("{error}: {event}"))?;
                if captures.json(&expected, &event, "the event").is_ok() {
                    return Ok(());
                }
                text = rest.to_owned();
            }
        }
    }

    async fn closed(&mut self) -> Result<(), String> {
        if self.read().await? == 0 && self.received.is_empty() {
            return Ok(());
        }
        Err("the connection is still open".to_owned())
    }

    async fn head(&mut self) -> Result<Answer, String> {
        let end = loop {
            if let Some(end) = find(&self.received, b"\r\n\r\n") {
                break end;
            }
            if self.read().await? == 0 {
                return Err("the connection was closed instead of an answer".to_owned());
            }
        };
        let head: Vec<u8> = self.received.drain(..end + 4).collect();
        let head = String::from_utf8(head).map_err(|error| error.to_string())?;
        let mut lines = head.trim_end().split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(2..5)?.parse().ok())
            .ok_or_else(|| format!("no status line: {first}"))?;
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':').ok_or_else(|| format!("no header: {line}"))?;
                Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
            })
            .collect::<Result<_, String>>()?;
        Ok(Answer {
            status,
            headers,
            body: Vec::new(),
        })
    }

    /// Reads the body as a client must that knows only the head: by length, by chunks, or to the end of the connection.
    async fn body(&mut self, answer: &Answer) -> Result<Vec<u8>, String> {
        if self.method == "HEAD" {
            return Ok(Vec::new());
        }
        if answer.header("transfer-encoding")? == Some("chunked") {
            let mut body = Vec::new();
            while let Some(chunk) = self.chunk().await? {
                body.extend(chunk);
            }
            return Ok(body);
        }
        if let Some(length) = answer.header("content-length")? {
            let length = length.parse().map_err(|_| format!("no length: {length}"))?;
            return self.exactly(length).await;
        }
        while self.read().await? > 0 {}
        Ok(std::mem::take(&mut self.received))
    }

    async fn chunk(&mut self) -> Result<Option<Vec<u8>>, String> {
        let end = loop {
            if let Some(end) = find(&self.received, b"\r\n") {
                break end;
            }
            if self.read().await? == 0 {
                return Err("the connection was closed within a body".to_owned());
            }
        };
        let line = self.exactly(end + 2).await?;
        let size = String::from_utf8_lossy(&line);
        let size = usize::from_str_radix(size.trim(), 16).map_err(|_| format!("no chunk: {size}"))?;
        let mut chunk = self.exactly(size + 2).await?;
        chunk.truncate(size);
        Ok((size > 0).then_some(chunk))
    }

    async fn exactly(&mut self, length: usize) -> Result<Vec<u8>, String> {
        while self.received.len() < length {
            if self.read().await? == 0 {
                return Err("the connection was closed within a body".to_owned());
            }
        }
        Ok(self.received.drain(..length).collect())
    }

    async fn read(&mut self) -> Result<usize, String> {
        let read = self.stream.read_buf(&mut self.received).await;
        read.map_err(|error| error.to_string())
    }
}

impl Answer {
    /// A header that may be there once.
    fn header(&self, name: &str) -> Result<Option<&str>, String> {
        let mut values = self.headers.iter().filter(|(other, _)| other == name);
        let value = values.next().map(|(_, value)| value.as_str());
        match values.next() {
            None => Ok(value),
            Some(_) => Err(format!("{name} is there twice")),
        }
    }

    fn show(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        let body: String = body.chars().take(2000).collect();
        format!("{} {:?}\n{body}", self.status, self.headers)
    }
}

fn compare(
    expected: &Expected,
    answer: &Answer,
    is_head: bool,
    captures: &mut Captures,
) -> Result<(), String> {
    if answer.status != expected.status {
        return Err(format!("{} instead of {}", answer.status, expected.status));
    }
    for header in &expected.headers {
        match header {
            Header::Is(name, value) => {
                let (actual, value) = (answer.header(name)?, captures.fill(value));
                if actual != Some(&value) {
                    return Err(format!("{name} is {actual:?} instead of {value}"));
                }
            }
            Header::Absent(name) => {
                if let Some(actual) = answer.header(name)? {
                    return Err(format!("there is {name}: {actual}"));
                }
            }
        }
    }
    let content_type = answer.header("content-type")?.unwrap_or_default();
    if answer.header("transfer-encoding")?.is_some() && answer.header("content-length")?.is_some() {
        return Err("the body has a length and is chunked as well".to_owned());
    }
    let mut body = expected.body.clone();
    if let Some(message) = &expected.message {
        if content_type != "application/json" || answer.header("content-length")?.is_none() {
            return Err("an error is JSON with a length".to_owned());
        }
        if !is_head {
            body = vec![json!({"message": captures.fill(message)}).to_string()];
        }
    }
    compare_body(&body, content_type, answer, expected.endless, captures)
}

fn compare_body(
    expected: &[String],
    content_type: &str,
    answer: &Answer,
    endless: bool,
    captures: &mut Captures,
) -> Result<(), String> {
    let text = std::str::from_utf8(&answer.body).map_err(|error| error.to_string())?;
    if endless || (expected.is_empty() && text.is_empty()) {
        return Ok(());
    }
    if expected.is_empty() {
        return Err("there is a body".to_owned());
    }
    let parse = |text: &str| serde_json::from_str::<Value>(text).map_err(|error| format!("{error}: {text}"));
    match content_type {
        "application/json" => captures.json(&parse(&expected.join("\n"))?, &parse(text)?, "the answer"),
        "application/x-ndjson" => {
            if !text.ends_with('\n') {
                return Err("the last line does not end".to_owned());
            }
            let expected: Vec<Value> = expected
                .iter()
                .map(|line| parse(line))
                .collect::<Result<_, _>>()?;
            let expected: Vec<Value> = expected.iter().flat_map(repeat).collect();
            let actual: Vec<Value> = text.lines().map(parse).collect::<Result<_, _>>()?;
            captures.json(&json!(expected), &json!(actual), "the lines")
        }
        _ => {
            let mut lines = text.lines();
            for expected in expected {
                if !lines.any(|line| captures.line(expected, line)) {
                    return Err(format!("there is no line {expected}, or not in this order"));
                }
            }
            Ok(())
        }
    }
}

fn body_of(lines: &[String], is_chunked: bool, captures: &Captures) -> Vec<u8> {
    if is_chunked {
        return lines
            .iter()
            .map(|line| captures.fill(line) + "\r\n")
            .collect::<String>()
            .into_bytes();
    }
    captures.fill(&lines.join("\n")).into_bytes()
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
