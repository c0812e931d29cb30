//! Sending a backup: to its end, or visibly not.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// Reads on until the body breaks off.
///
/// # Panics
/// When it comes to an end instead.
async fn breaks_off(body: &mut Incoming) {
    loop {
        match soon("the rest", body.frame()).await {
            Some(Ok(_)) => {}
            Some(Err(_)) => return,
            None => panic!("what is incomplete looks complete"),
        }
    }
}

/// Whether no connection but that of whoever asks is open.
async fn is_alone(running: &Running) -> bool {
    let metrics = running.admin().get("/v1/metrics").await.ok().text();
    metrics.contains("\nkes_connections 1\n")
}

fn endless() -> Vec<Part> {
    vec![Part::Endless(Bytes::from(vec![7; 100_000]))]
}

#[tokio::test]
async fn a_backup_is_sent_as_it_is_made() {
    let store = FakeOwnStore::new();
    let running = over(&store).await;
    for name in ["a", "b", "c"] {
        running
            .app()
            .put(&format!("/v1/key/create/{name}"), "")
            .await
            .ok();
    }
    for protocol in PROTOCOLS {
        let answer = connect(&running, protocol)
            .await
            .send("GET", BACKUP, "")
            .await
            .ok();
        assert_eq!(answer.body, "a\nb\nc\n");
        assert_eq!(answer.headers["content-type"], "application/octet-stream");
        assert!(!answer.headers.contains_key("content-disposition"));
        assert!(!answer.headers.contains_key("content-length"));
        free(&store).await;
    }

    // Headers and pieces come when they are there, and large ones whole.
    for protocol in PROTOCOLS {
        let (first, second) = (Gate::new(), Gate::new());
        let large = Bytes::from((0..1_000_003_u32).map(|n| n as u8).collect::<Vec<_>>());
        store.set_backup(vec![
            Part::Wait(first.clone()),
            Part::Piece("one".into()),
            Part::Piece(Bytes::new()),
            Part::Wait(second.clone()),
            Part::Piece(large.clone()),
        ]);
        let mut connection = connect(&running, protocol).await;
        let mut body = begin(&mut connection).await.into_body();
        first.open();
        assert_eq!(piece(&mut body).await, "one");
        second.open();
        assert_eq!(soon("the rest", body.collect()).await.unwrap().to_bytes(), large);
        free(&store).await;
    }

    // An empty one is one, too.
    store.set_backup(Vec::new());
    for protocol in PROTOCOLS {
        let mut connection = connect(&running, protocol).await;
        let body = begin(&mut connection).await.into_body();
        assert!(
            soon("the end", body.collect())
                .await
                .unwrap()
                .to_bytes()
                .is_empty()
        );
        // The connection goes on.
        connection.send("GET", "/version", "").await.ok();
        free(&store).await;
    }
}

#[tokio::test]
async fn one_backup_at_a_time() {
    let store = FakeOwnStore::new();
    let running = over(&store).await;
    for protocol in PROTOCOLS {
        let gate = Gate::new();
        store.set_backup(vec![Part::Piece("one".into()), Part::Wait(gate.clone())]);
        let mut connection = connect(&running, protocol).await;
        let mut body = begin(&mut connection).await.into_body();
        assert_eq!(piece(&mut body).await, "one");
        for other in PROTOCOLS {
            let refused = connect(&running, other).await.send("GET", BACKUP, "").await;
            refused.fails(503, "another backup is under way");
            assert_eq!(refused.headers["retry-after"], "1");
        }
        // All else goes on meanwhile.
        running.admin().get(INFO).await.ok();
        running.app().get("/v1/key/list/").await.ok();
        gate.open();
        assert!(
            soon("the end", body.collect())
                .await
                .unwrap()
                .to_bytes()
                .is_empty()
        );
        free(&store).await;
    }
    running.admin().get(BACKUP).await.ok();
}

#[tokio::test]
async fn a_backup_that_fails_midway_never_looks_complete() {
    let store = FakeOwnStore::new();
    let running = over(&store).await;
    let mut following = running.admin().connect().await.unwrap();
    let mut errors = following.follow("/v1/log/error").await;
    for protocol in PROTOCOLS {
        for before in [vec![], vec![Part::Piece("one".into()), Part::Piece("two".into())]] {
            let count = before.len();
            store.set_backup([before, vec![Part::Fail(Failure::Corrupt)]].concat());
            let mut connection = connect(&running, protocol).await;
            let mut body = begin(&mut connection).await.into_body();
            for expected in ["one", "two"].into_iter().take(count) {
                assert_eq!(piece(&mut body).await, expected);
            }
            breaks_off(&mut body).await;
            free(&store).await;
        }
    }
    let mut lines = String::new();
    while !lines.contains("a backup is broken off") {
        let frame = soon("the error log", errors.frame()).await.unwrap().unwrap();
        lines.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
    assert!(
        lines.contains("level=ERROR") && lines.contains("corrupt: as the test wants it"),
        "{lines}"
    );
}

#[tokio::test]
async fn nothing_but_its_end_closes_the_connection_of_a_backup_properly() {
    for (parts, is_whole) in [
        (vec![Part::Piece("one".into())], true),
        (
            vec![Part::Piece("one".into()), Part::Fail(Failure::Corrupt)],
            false,
        ),
    ] {
        let store = FakeOwnStore::new();
        let running = over(&store).await;
        store.set_backup(parts);
        let mut stream = running.admin().tls().await.unwrap();
        // Its answers have neither a length nor chunks.
        let request = format!("GET {BACKUP} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let end = soon("the end", stream.read_to_end(&mut answer)).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.ends_with("one"), "{answer}");
        assert!(
            !answer.contains("chunked") && !answer.contains("length"),
            "{answer}"
        );
        assert_eq!(end.is_ok(), is_whole, "{end:?}: {answer}");
        free(&store).await;
    }
}

#[tokio::test]
async fn a_store_that_stops_in_the_middle_is_given_up() {
    for protocol in PROTOCOLS {
        let store = FakeOwnStore::new();
        let running = over(&store).await;
        store.set_backup(vec![Part::Piece("one".into()), Part::Wait(Gate::new())]);
        let mut connection = connect(&running, protocol).await;
        let mut body = begin(&mut connection).await.into_body();
        assert_eq!(piece(&mut body).await, "one");
        skip(Duration::from_secs(40)).await;
        running.admin().get("/version").await.ok();
        assert_eq!(store.backups_under_way(), 1);
        skip(Duration::from_secs(21)).await;
        breaks_off(&mut body).await;
        free(&store).await;
    }
}

/// Waits until nothing more fits between the server and a client that does not read.
async fn full(store: &FakeOwnStore, running: &Running) {
    let mut before = usize::MAX;
    let mut other = connect(running, Protocol::Http1).await;
    until("the client is stuffed", async || {
        // Long enough for whatever is on its way.
        for _ in 0..20 {
            other.send("GET", "/version", "").await.ok();
        }
        let taken = store.pieces_taken();
        std::mem::replace(&mut before, taken) == taken
    })
    .await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_for_a_minute_is_cut_off() {
    for protocol in PROTOCOLS {
        let store = FakeOwnStore::new();
        let mut server = TestServer::keeping(&store);
        server.settings.limits = Limits {
            header_timeout: LONG,
            idle_timeout: LONG,
            ..server.settings.limits
        };
        let running = start(server).await;
        store.set_backup(endless());
        let mut connection = connect(&running, protocol).await;
        let mut body = begin(&mut connection).await.into_body();
        // Slow is not stalled.
        for _ in 0..4 {
            full(&store, &running).await;
            skip(Duration::from_secs(40)).await;
            let taken = store.pieces_taken();
            until("the next pieces", async || {
                piece(&mut body).await;
                store.pieces_taken() > taken + 2
            })
            .await;
        }
        full(&store, &running).await;
        skip(Duration::from_secs(40)).await;
        running.admin().get("/version").await.ok();
        assert_eq!(store.backups_under_way(), 1);
        in_time("the store is free again", async || {
            running.admin().get("/version").await.ok();
            store.backups_under_way() == 0
        })
        .await;
        // The connection is closed, so nobody holds it.
        until("the connection is gone", async || is_alone(&running).await).await;
        breaks_off(&mut body).await;
    }
}

#[tokio::test]
async fn a_client_that_does_not_take_the_end_is_cut_off_as_well() {
    for protocol in PROTOCOLS {
        for last in [None, Some(Part::Fail(Failure::Backend))] {
            let store = FakeOwnStore::new();
            let mut server = TestServer::keeping(&store);
            server.settings.limits.idle_timeout = LONG;
            let running = start(server).await;
            let gate = Gate::new();
            let mut parts = vec![
                Part::Piece(Bytes::from(vec![7; 16 << 20])),
                Part::Wait(gate.clone()),
            ];
            parts.extend(last);
            store.set_backup(parts);
            let mut connection = connect(&running, protocol).await;
            let mut body = begin(&mut connection).await.into_body();
            gate.open();
            in_time("the client is cut off", async || is_alone(&running).await).await;
            assert_eq!(store.backups_under_way(), 0);
            breaks_off(&mut body).await;
        }
    }
}

#[tokio::test]
async fn a_backup_takes_as_long_as_it_takes() {
    for protocol in PROTOCOLS {
        let store = FakeOwnStore::new();
        let running = over(&store).await;
        let gates: Vec<_> = (0..10).map(|_| Gate::new()).collect();
        let parts = gates
            .iter()
            .flat_map(|gate| [Part::Wait(gate.clone()), Part::Piece("one".into())]);
        store.set_backup(parts.collect());
        let mut connection = connect(&running, protocol).await;
        let mut body = begin(&mut connection).await.into_body();
        for gate in gates {
            soon("the next gate", gate.reached()).await;
            skip(Duration::from_secs(40)).await;
            gate.open();
            assert_eq!(piece(&mut body).await, "one");
        }
        assert!(
            soon("the end", body.collect())
                .await
                .unwrap()
                .to_bytes()
                .is_empty()
        );
    }
}

#[tokio::test]
async fn a_client_that_goes_away_frees_the_store() {
    for protocol in PROTOCOLS {
        for parts in [endless(), vec![Part::Wait(Gate::new())]] {
            let store = FakeOwnStore::new();
            let running = over(&store).await;
            store.set_backup(parts);
            let mut connection = connect(&running, protocol).await;
            let response = begin(&mut connection).await;
            drop((response, connection));
            free(&store).await;
            store.set_backup(Vec::new());
            running.admin().get(BACKUP).await.ok();
        }
    }
}

#[tokio::test]
async fn a_backup_does_not_hold_up_the_end_and_does_not_look_complete() {
    for protocol in PROTOCOLS {
        for parts in [
            endless(),
            vec![Part::Piece("one".into()), Part::Wait(Gate::new())],
        ] {
            let store = FakeOwnStore::new();
            let mut running = start(TestServer::keeping(&store).with_own_error_log()).await;
            store.set_backup(parts);
            let mut connection = connect(&running, protocol).await;
            let mut body = begin(&mut connection).await.into_body();
            piece(&mut body).await;
            let reading = tokio::spawn(async move { breaks_off(&mut body).await });
            soon("the end", running.shutdown(LONG)).await;
            soon("the break", reading).await.unwrap();
            assert_eq!((store.backups_under_way(), store.closed()), (0, 1));
        }
    }
}

#[tokio::test]
async fn a_stalled_backup_holds_up_the_end_for_a_minute_at_most() {
    for protocol in PROTOCOLS {
        let store = FakeOwnStore::new();
        let mut server = TestServer::keeping(&store).with_own_error_log();
        server.settings.limits.idle_timeout = LONG;
        let mut running = start(server).await;
        store.set_backup(endless());
        let mut connection = connect(&running, protocol).await;
        let mut body = begin(&mut connection).await.into_body();
        full(&store, &running).await;
        let ending = tokio::spawn(async move { running.shutdown(LONG).await });
        // The store is let go at once.
        free(&store).await;
        in_time("the end", async || {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            ending.is_finished()
        })
        .await;
        ending.await.unwrap();
        assert_eq!(store.closed(), 1);
        breaks_off(&mut body).await;
    }
}

#[tokio::test]
async fn a_time_limit_of_the_configuration_is_for_the_beginning_of_a_backup_only() {
    let store = FakeOwnStore::new();
    let mut server = TestServer::keeping(&store);
    let brief = RouteSettings {
        skip_auth: false,
        timeout: Some(Duration::from_secs(5)),
    };
    server.settings.routes.insert(Verb::StoreBackup, brief);
    let running = start(server).await;
    let gate = Gate::new();
    store.set_backup(vec![Part::Wait(gate.clone()), Part::Piece("one".into())]);
    let mut connection = connect(&running, Protocol::Http1).await;
    let mut body = begin(&mut connection).await.into_body();
    skip(Duration::from_secs(10)).await;
    gate.open();
    assert_eq!(piece(&mut body).await, "one");
    assert!(soon("the end", body.frame()).await.is_none());

    free(&store).await;
    let hanging = Gate::new();
    store.next(MaintenanceOp::Backup, Step::WaitBefore(hanging.clone()));
    let client = running.admin();
    let request = tokio::spawn(async move { client.get(BACKUP).await });
    soon("the request reaches the store", hanging.reached()).await;
    skip(Duration::from_secs(6)).await;
    let answer = soon("the answer", request).await.unwrap();
    answer.fails(503, "request timed out");
}

#[tokio::test]
async fn backups_take_no_place_from_log_streams() {
    let store = FakeOwnStore::new();
    let mut server = TestServer::keeping(&store);
    server.settings.limits.log_streams = 1;
    let running = start(server).await;
    store.set_backup(vec![Part::Wait(Gate::new())]);
    let mut first = connect(&running, Protocol::Http1).await;
    let _backup = begin(&mut first).await;
    let mut second = connect(&running, Protocol::Http1).await;
    let _log = second.follow("/v1/log/audit").await;
}
