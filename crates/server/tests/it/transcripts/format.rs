//! Transcripts as text: `tests/transcripts/README.md` says what the lines mean.

/// What a client and the server say to each other.
#[derive(Debug)]
pub(super) struct Transcript {
    pub(super) setup: Setup,
    pub(super) steps: Vec<Step>,
}

/// How the server is before the first request.
#[derive(Debug, Default)]
pub(super) struct Setup {
    /// Rules of the policy `app`, in place of the usual ones.
    pub(super) allow: Vec<String>,
    pub(super) deny: Vec<String>,
    /// Paths that need no certificate.
    pub(super) open: Vec<String>,
    /// How many keys named `key-00000`, `key-00001`, … there are.
    pub(super) keys: usize,
    /// Stored keys, each a name and a record.
    pub(super) records: Vec<(String, String)>,
}

/// One step and the line it begins on.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) line: usize,
    pub(super) what: What,
}

/// What happens in a step.
#[derive(Debug)]
pub(super) enum What {
    /// From here on, the named connection speaks.
    Speaker(String),
    /// The key store fails, or works again.
    Store(String),
    /// The client sends these lines: a request, or the body that an earlier one has announced.
    Send(Vec<String>),
    /// The server answers.
    Answer(Expected),
    /// An event follows on an open stream.
    Event(String),
    /// The server closes the connection.
    Closed,
}

/// What an answer must be.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) status: u16,
    /// The message, of an error.
    pub(super) message: Option<String>,
    pub(super) headers: Vec<Header>,
    /// The body. Empty, there must be none.
    pub(super) body: Vec<String>,
    /// Whether the body goes on for ever.
    pub(super) endless: bool,
}

/// What a header must be.
#[derive(Debug)]
pub(super) enum Header {
    Is(String, String),
    Absent(String),
}

impl Transcript {
    /// # Panics
    /// When the text is no transcript.
    pub(super) fn parse(text: &str) -> Self {
        let mut setup = Setup::default();
        let mut steps = Vec::new();
        let mut lines = text.lines().enumerate().peekable();
        while let Some((index, line)) = lines.next() {
            let number = index + 1;
            let mut block = |prefix: char, first: &str| {
                let mut block = vec![content(first).to_owned()];
                while let Some((_, next)) = lines.next_if(|(_, next)| next.starts_with(prefix)) {
                    block.push(content(next).to_owned());
                }
                block
            };
            let what = match line.chars().next() {
                None | Some('#') => continue,
                Some('@') => match directive(line, &mut setup) {
                    Some(what) => {
                        assert!(
                            !steps.is_empty() || matches!(what, What::Speaker(_)),
                            "line {number}"
                        );
                        what
                    }
                    None => {
                        assert!(steps.is_empty(), "line {number}: the server runs already");
                        continue;
                    }
                },
                Some('>') => What::Send(block('>', line)),
                Some('<') => What::Answer(Expected::parse(&block('<', line), number)),
                Some('+') => What::Event(content(line).to_owned()),
                Some(_) => panic!("line {number} is nothing that a transcript has: {line}"),
            };
            steps.push(Step { line: number, what });
        }
        Self { setup, steps }
    }

    /// The errors that are expected.
    pub(super) fn errors(&self) -> impl Iterator<Item = (u16, &str)> {
        self.steps.iter().filter_map(|step| match &step.what {
            What::Answer(expected) => Some((expected.status, expected.message.as_deref()?)),
            _ => None,
        })
    }
}

impl Expected {
    fn parse(block: &[String], line: usize) -> Self {
        let (status, message) = match block[0].split_once(' ') {
            Some((status, message)) => (status, Some(message.to_owned())),
            None => (block[0].as_str(), None),
        };
        let (headers, body) = match block.iter().position(String::is_empty) {
            Some(end) => (&block[1..end], &block[end + 1..]),
            None => (&block[1..], &[][..]),
        };
        let endless = body.last().is_some_and(|last| last == "…");
        Self {
            status: status
                .parse()
                .unwrap_or_else(|_| panic!("line {line}: no status: {status}")),
            message,
            headers: headers.iter().map(|header| Header::parse(header, line)).collect(),
            body: body[..body.len() - usize::from(endless)].to_vec(),
            endless,
        }
    }
}

impl Header {
    fn parse(text: &str, line: usize) -> Self {
        if let Some(name) = text.strip_prefix("no ") {
            return Self::Absent(name.to_ascii_lowercase());
        }
        let (name, value) = text
            .split_once(": ")
            .unwrap_or_else(|| panic!("line {line}: no header: {text}"));
        Self::Is(name.to_ascii_lowercase(), value.to_owned())
    }
}

/// What stands behind the first character and the space that follows it.
fn content(line: &str) -> &str {
    let rest = &line[1..];
    rest.strip_prefix(' ').unwrap_or(rest)
}

fn directive(line: &str, setup: &mut Setup) -> Option<What> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.to_owned();
    match word {
        "@as" => return Some(What::Speaker(rest)),
        "@store" => return Some(What::Store(rest)),
        "@closed" => return Some(What::Closed),
        "@allow" => setup.allow.push(rest),
        "@deny" => setup.deny.push(rest),
        "@open" => setup.open.push(rest),
        "@keys" => setup.keys = rest.parse().expect("a number of keys"),
        "@record" => {
            let (name, record) = rest.split_once(' ').expect("a name and a record");
            setup.records.push((name.to_owned(), record.to_owned()));
        }
        _ => panic!("{line}: unknown"),
    }
    None
}
