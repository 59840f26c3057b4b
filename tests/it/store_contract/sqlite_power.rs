//! A store in a file after its machine lost power.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use fastauth::store::{Revoked, SessionStatus, SqliteStore};
use rusqlite::Connection;
use tokio::task::JoinSet;

use crate::support::stores::{ManySessions, OnePair, held};

/// The bytes before the frames of a log, and those before the page of a frame.
const LOG_HEAD: usize = 32;
const FRAME_HEAD: usize = 24;
const IMAGES: u64 = 12;

/// What was acknowledged: the clients that have a session, and those whose sessions were revoked.
#[derive(Clone, Default)]
struct Acknowledged {
    live: Vec<String>,
    revoked: Vec<String>,
}

/// What is on the disk at a moment, while the store writes.
struct Image {
    database: Vec<u8>,
    log: Vec<u8>,
    /// How much of the log has been synced at the least.
    synced: usize,
    acknowledged: Acknowledged,
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_writes_survive_power_cuts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens.db");
    let store = Arc::new(SqliteStore::open(&path).unwrap());
    let acknowledged = Arc::new(Mutex::new(Acknowledged::default()));
    let stops = Arc::new(AtomicBool::new(false));
    let mut storm = JoinSet::new();
    for task in 0..8 {
        storm.spawn(write(Arc::clone(&store), task, Arc::clone(&acknowledged), Arc::clone(&stops)));
    }
    let mut revoked = 0;
    for number in 0..IMAGES {
        let image = image(&path, &acknowledged, revoked);
        revoked = image.acknowledged.revoked.len();
        let copy = directory.path().join(format!("copy-{number}.db"));
        write_image(&image, &copy, number);
        assert_holds(&copy, &image.acknowledged).await;
        fs::remove_file(&copy).unwrap();
    }
    stops.store(true, Ordering::Relaxed);
    while let Some(done) = storm.join_next().await {
        done.unwrap();
    }
}

/// Issues and revokes until it is stopped. Every third client keeps its session.
async fn write(store: Arc<SqliteStore>, task: u32, acknowledged: Arc<Mutex<Acknowledged>>, stops: Arc<AtomicBool>) {
    for n in 0.. {
        if stops.load(Ordering::Relaxed) {
            return;
        }
        let id = format!("{task}-{n}");
        store.begin(&id, "f", format!("{id}.0")).await;
        if n % 3 == 0 {
            acknowledged.lock().unwrap().live.push(id);
            continue;
        }
        assert_eq!(store.revoke_session(&id, "f").await, Revoked::Sessions(1));
        acknowledged.lock().unwrap().revoked.push(id);
    }
}

/// Copies the files once more revocations than these were acknowledged. An image during which the log began again is taken again:
/// its parts are of different moments.
fn image(path: &Path, acknowledged: &Mutex<Acknowledged>, revoked: usize) -> Image {
    let log_path = log_of(path);
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        assert!(Instant::now() < deadline, "the log begins again all the time");
        let acknowledged = acknowledged.lock().unwrap().clone();
        let Ok(before) = salts(&log_path) else { continue };
        if acknowledged.revoked.len() <= revoked + 20 {
            std::thread::yield_now();
            continue;
        }
        // What a checkpoint writes to the database meanwhile was synced in the log before.
        let database = fs::read(path).unwrap();
        let synced = end_of_frames(&fs::read(&log_path).unwrap());
        let log = fs::read(&log_path).unwrap();
        if salts(&log_path).is_ok_and(|after| after == before) && log[16..24] == before {
            return Image { database, log, synced, acknowledged };
        }
    }
}

fn log_of(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}-wal", path.display()))
}

/// Returns what tells the frames of a log from those of the log that was in its file before.
fn salts(log: &Path) -> io::Result<[u8; 8]> {
    use io::Read;
    let mut head = [0; LOG_HEAD];
    fs::File::open(log)?.read_exact(&mut head)?;
    let mut salts = [0; 8];
    salts.copy_from_slice(&head[16..24]);
    Ok(salts)
}

fn end_of_frames(log: &[u8]) -> usize {
    let page = u32::from_be_bytes(log[8..12].try_into().unwrap()) as usize;
    let frames = log[LOG_HEAD..].chunks_exact(FRAME_HEAD + page);
    let count = frames.take_while(|frame| frame[8..16] == log[16..24]).count();
    LOG_HEAD + count * (FRAME_HEAD + page)
}

/// Writes the files as they are after a power cut: what was not synced is there up to some byte, and then anything.
fn write_image(image: &Image, copy: &Path, number: u64) {
    let random = |step: u64| {
        let mixed = (number * 2 + step + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        usize::try_from(mixed >> 32).unwrap()
    };
    let mut log = image.log.clone();
    let kept = image.synced + random(0) % (log.len() - image.synced + 1);
    if number.is_multiple_of(2) {
        log.truncate(kept);
    } else {
        for (place, byte) in log[kept..].iter_mut().enumerate() {
            *byte ^= u8::try_from((place + random(1)) % 255).unwrap() | 1;
        }
    }
    fs::write(copy, &image.database).unwrap();
    fs::write(log_of(copy), log).unwrap();
}

async fn assert_holds(copy: &Path, acknowledged: &Acknowledged) {
    let store = SqliteStore::open(copy).unwrap();
    for id in &acknowledged.revoked {
        assert_eq!(store.held(id).await.unwrap(), None, "{id} is revoked");
        assert_eq!(store.session(id, "f").await.status, SessionStatus::Revoked, "{id}");
    }
    for id in &acknowledged.live {
        assert_eq!(store.held(id).await.unwrap(), held(format!("{id}.0")), "{id} is live");
    }
    drop(store);
    let connection = Connection::open(copy).unwrap();
    let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
}
