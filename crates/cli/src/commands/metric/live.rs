//! The live view: asks a server again and again, and shows what it answers until the user has seen enough.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kes_client::{Client, Error, Measurements};
use kes_types::Clock;
use rustix::process::{Signal, getpid, kill_process};
use time::UtcOffset;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::model::Model;
use super::screen::{self, Screen};
use super::view::View;
use crate::commands::timestamp;
use crate::connection::explain;
use crate::context::Context;
use crate::failure::{Failure, Outcome, one_line};
use crate::following::{follow, somebody_reads};

/// Shows the metrics of the server of `client`, which is asked at once and after each `every`.
pub(super) fn show(client: &Client, every: Duration, context: &Context<'_>) -> Outcome {
    let clock = context.clock.clone();
    let look = Look {
        // The time zone cannot be found out once there are threads.
        zone: timestamp::zone(clock.now()),
        clock,
        colors: context.output.has_colors(),
    };
    let endpoints: Vec<_> = client.endpoints().iter().map(ToString::to_string).collect();
    follow(async {
        // A first answer comes before anything is drawn: who is refused, or has the wrong address, reads one line that says so.
        let first = client.measurements().await.map_err(explain)?;
        let model = Model::new(endpoints.join(", "), every, first);
        watch(client, model, &look).await
    })
}

/// What the view needs besides the figures.
struct Look {
    clock: Arc<dyn Clock>,
    zone: UtcOffset,
    colors: bool,
}

/// What happens to a view.
enum Event {
    Due,
    Answered(Box<Result<Measurements, Error>>),
    Resized,
    /// Ctrl-Z.
    Suspended,
    /// Another signal that ends programs, or the terminal is closed.
    Ended,
    Quit,
}

async fn watch(client: &Client, mut model: Model, look: &Look) -> Outcome {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut resize = signal(SignalKind::window_change())?;
    let mut suspend = signal(SignalKind::from_raw(Signal::TSTP.as_raw()))?;
    let mut ticks = interval(model.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    let mut screen = Screen::enter()?;
    let mut pressed = Box::pin(screen::quit());
    let mut asked = None;
    loop {
        somebody_reads().await?;
        screen.draw(View {
            model: &model,
            now: look.clock.now(),
            colors: look.colors,
        })?;
        let event = tokio::select! {
            biased;
            _ = hangup.recv() => Event::Ended,
            _ = quit.recv() => Event::Ended,
            () = &mut pressed => Event::Quit,
            _ = suspend.recv() => Event::Suspended,
            _ = resize.recv() => Event::Resized,
            answer = answer(&mut asked) => Event::Answered(Box::new(answer)),
            _ = ticks.tick(), if asked.is_none() => Event::Due,
        };
        match event {
            Event::Ended => return Err(Failure::Interrupted),
            Event::Quit => return Ok(()),
            Event::Resized => screen.resized()?,
            Event::Suspended => stop(&mut screen)?,
            Event::Due => asked = Some(Box::pin(client.measurements())),
            Event::Answered(answer) => {
                asked = None;
                match *answer {
                    Ok(measured) => model.answered(measured),
                    Err(error) => {
                        let now = look.clock.now().to_offset(look.zone);
                        model.failed(now, one_line(&explain(error)));
                    }
                }
            }
        }
    }
}

/// The answer to what was asked, if anything was.
async fn answer<F: Future + Unpin>(asked: &mut Option<F>) -> F::Output {
    match asked {
        Some(asked) => asked.await,
        None => std::future::pending().await,
    }
}

/// Stops this process as Ctrl-Z does, with the terminal as it was before, until it is continued.
fn stop(screen: &mut Screen) -> io::Result<()> {
    screen.leave()?;
    kill_process(getpid(), Signal::STOP)?;
    screen.resume()
}
