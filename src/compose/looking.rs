//! Reads the configuration again by itself: on SIGHUP, or when a file has changed. Files are read in a thread of its own, which ends
//! with the layer.

use std::{
    io,
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

use fastauth_config::{Fingerprint, SettingsBuilder};
use fastauth_core::settings::Reload;

use super::Live;

/// How often the files are looked at.
const PERIOD: Duration = Duration::from_secs(2);
/// How long a file must not change before it is taken: it may be in the middle of being written.
const SETTLING: Duration = Duration::from_millis(100);

/// What ends the wait for signals.
#[cfg(all(unix, feature = "sighup"))]
pub(super) type Waiting = Option<signal_hook::iterator::Handle>;
#[cfg(not(all(unix, feature = "sighup")))]
pub(super) type Waiting = Option<std::convert::Infallible>;

/// Starts what reads the sources again, if that is configured. `files` are what they held at the start.
pub(super) fn start(
    live: &Arc<Live>,
    when: Reload,
    sources: SettingsBuilder,
    files: Fingerprint,
) -> io::Result<Waiting> {
    let layer = Arc::downgrade(live);
    match when {
        Reload::Off => {}
        Reload::Sighup => return on_sighup(layer, sources),
        Reload::Watch => {
            let watched = (layer.clone(), sources.clone());
            thread(move || watch(&watched.0, &watched.1, files))?;
            // Who asks for a reload does not mean to end the process.
            if cfg!(all(unix, feature = "sighup")) {
                return on_sighup(layer, sources);
            }
        }
    }
    Ok(Waiting::default())
}

fn thread(run: impl FnOnce() + Send + 'static) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("fastauth-reload".to_owned()).spawn(run)
}

/// Compares by content: Kubernetes swaps a link, and a system that is asked for notices may miss that.
fn watch(layer: &Weak<Live>, sources: &SettingsBuilder, mut taken: Fingerprint) {
    let mut last = taken.clone();
    let mut pause = PERIOD;
    loop {
        thread::sleep(pause);
        let Some(live) = layer.upgrade() else { return };
        let found = sources.clone().report().files().clone();
        pause = if found == last { PERIOD } else { SETTLING };
        if found == last && found != taken {
            // What is read while nothing else reloads is what stays, so it is read again. A fault was logged.
            let _ = live.reload_if(|| {
                let report = sources.clone().report();
                if *report.files() != found {
                    return None;
                }
                taken.clone_from(&found);
                Some(report.into_settings())
            });
        }
        last = found;
    }
}

#[cfg(all(unix, feature = "sighup"))]
fn on_sighup(layer: Weak<Live>, sources: SettingsBuilder) -> io::Result<Waiting> {
    use signal_hook::{consts::SIGHUP, iterator::Signals};
    let mut signals = Signals::new([SIGHUP])?;
    let handle = signals.handle();
    thread(move || {
        for _ in signals.forever() {
            let Some(live) = layer.upgrade() else { return };
            // A fault was logged.
            let _ = live.reload(|| sources.clone().load());
        }
    })?;
    Ok(Some(handle))
}

#[cfg(not(all(unix, feature = "sighup")))]
fn on_sighup(_: Weak<Live>, _: SettingsBuilder) -> io::Result<Waiting> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this build has no signals"))
}

/// Stops the wait for signals.
pub(super) fn stop(waiting: &Waiting) {
    #[cfg(all(unix, feature = "sighup"))]
    if let Some(handle) = waiting {
        handle.close();
    }
    #[cfg(not(all(unix, feature = "sighup")))]
    let _ = waiting;
}
