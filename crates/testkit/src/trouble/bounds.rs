//! What nobody waits for any more, and what is left behind.

use futures_util::future::join_all;
use tokio::sync::Mutex;

use super::*;

/// What is given up by its caller ends its requests, long before their deadline. A write may go on, up to its deadline.
pub async fn what_is_cancelled_stops_its_requests(rig: impl Rig) {
    let trial = Trial::new(rig).await;
    let endless = Patience {
        attempt: Duration::from_secs(300),
        operation: Duration::from_secs(600),
        ..PATIENT
    };
    let brief = Patience {
        attempt: Duration::from_secs(1),
        operation: Duration::from_secs(3),
        ..PATIENT
    };
    for op in StoreOp::ALL {
        let is_write = matches!(op, StoreOp::Create | StoreOp::Delete);
        let store = trial.connect(if is_write { brief } else { endless }).await;
        trial.prepare(op, "cancelled").await;
        let requests = trial.requests_of(op);
        trial.proxy().set(move |request| {
            if requests(request) {
                Fault::Hang
            } else {
                Fault::Pass
            }
        });
        let mut asking = Box::pin(trial.ask(&store, op, "cancelled"));
        tokio::select! {
            asked = &mut asking => panic!("{op} has ended while its request hangs: {asked:?}"),
            () = until("the request has come", async || trial.proxy().under_way() > 0) => {}
        }
        drop(asking);
        until(
            &format!("the request of a cancelled {op} has ended"),
            async || trial.proxy().under_way() == 0,
        )
        .await;
        trial.heal();
        let asked = ends(op, PATIENT.operation, trial.ask(&store, op, "cancelled")).await;
        assert!(
            asked.is_ok() || is_write,
            "{op} after one that was cancelled: {asked:?}"
        );
    }
}

/// Failures leave neither memory nor connections behind.
pub async fn ten_thousand_failures_leave_nothing_behind(rig: impl Rig) {
    const OPERATIONS: usize = 10_000;
    const AT_ONCE: usize = 50;
    /// What is left behind is left in each of them. What other tests of the process take meanwhile is not.
    const ROUNDS: usize = 4;
    /// Five kilobytes an operation: less than its request.
    const GROWTH: u64 = 12 << 20;
    /// The memory of the process is that of all who examine this in it, such as of a store that does not keep the promise.
    static ALONE: Mutex<()> = Mutex::const_new(());
    let _alone = ALONE.lock().await;
    let trial = Trial::new(rig).await;
    let once = Patience {
        retries: 0,
        ..PATIENT
    };
    let store = trial.connect(once).await;
    let faults = [
        Fault::Reset,
        Fault::Says(trial.says(Trouble::Broken)),
        Fault::Says(trial.says(Trouble::Unavailable)),
        Fault::Garbage,
    ];
    let fail = async |operations: usize| {
        for round in 0..operations / AT_ONCE {
            trial.proxy().always(faults[round % faults.len()].clone());
            let ops = StoreOp::ALL.into_iter().cycle().take(AT_ONCE);
            let asked = ops.map(|op| trial.ask(&store, op, "failing"));
            for asked in ends("failing operations", once.operation, join_all(asked)).await {
                assert!(asked.is_err(), "an operation succeeds in spite of it all");
            }
            trial.proxy().forget();
        }
    };
    fail(OPERATIONS / 10).await;
    let mut growths = [0; ROUNDS];
    for growth in &mut growths {
        let before = resident();
        fail(OPERATIONS / ROUNDS).await;
        *growth = resident().saturating_sub(before);
    }
    assert!(
        growths.iter().any(|growth| *growth < GROWTH),
        "each {} failing operations have cost {growths:?} bytes",
        OPERATIONS / ROUNDS
    );
    trial.heal();
    until("nothing is under way any more", async || {
        trial.proxy().under_way() == 0
    })
    .await;
    let connections = trial.proxy().connections();
    assert!(connections <= AT_ONCE, "{connections} connections are left");
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}
