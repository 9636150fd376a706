//! The file: a query past its deadline is stopped alone, and a damaged file is kept as it is.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction};
use sessd_proto::session::ListRequest;
use sessd_proto::{Fault, FaultCode};

use super::super::{Error, Store, bindings, import, page, put_aside, sessions};
use super::{empty, found};

const ENDLESS_QUERY: &str =
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

#[tokio::test]
async fn a_slow_read_is_stopped_and_the_next_one_works() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("sessd.db")).unwrap();
    let store = Store { deadline: Duration::from_millis(50), ..store };
    let started = Instant::now();
    let slow =
        store.read_slowly(|c| Ok(c.query_row(ENDLESS_QUERY, [], |row| row.get::<_, i64>(0))?));
    // The other connection serves at the same time; both results are awaited together.
    let (slow, quick) = tokio::join!(slow, store.read(sessions::count));
    let fault = Fault::from(slow.unwrap_err());
    assert_eq!(fault.code, FaultCode::Deadline);
    assert!(fault.hint.is_some());
    assert!(started.elapsed() >= Duration::from_millis(50));
    assert_eq!(quick.unwrap(), 0);
    assert_eq!(store.read_slowly(sessions::count).await.unwrap(), 0);
    let slow =
        store.read(|c| Ok(c.query_row(ENDLESS_QUERY, [], |row| row.get::<_, i64>(0))?)).await;
    assert_eq!(Fault::from(slow.unwrap_err()).code, FaultCode::Deadline);
    assert_eq!(store.read(sessions::count).await.unwrap(), 0);
}

#[tokio::test]
async fn a_failing_transaction_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("sessd.db")).unwrap();
    let failed = store.write_durable(|tx| {
        tx.execute("INSERT INTO projects (root) VALUES ('/w')", [])?;
        Err::<(), _>(Error::Other("changed my mind".to_owned()))
    });
    failed.await.unwrap_err();
    let count = |c: &rusqlite::Connection| {
        Ok(c.query_row("SELECT count(*) FROM projects", [], |row| row.get::<_, i64>(0))?)
    };
    assert_eq!(store.read(count).await.unwrap(), 0);
}

#[test]
fn a_damaged_registry_is_put_aside_byte_for_byte() {
    for main in ["not a database", ""] {
        keeps_every_byte([("", main), ("-wal", "wal"), ("-shm", "shm")]);
    }
}

fn keeps_every_byte(files: [(&str, &str); 3]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sessd.db");
    for (suffix, text) in files {
        fs::write(dir.path().join(format!("sessd.db{suffix}")), text).unwrap();
    }
    assert!(Store::open(&path).unwrap_err().is_damage());
    assert_eq!(fs::read_to_string(&path).unwrap(), files[0].1);
    let kept = put_aside(&path, 7).unwrap();
    assert_eq!(kept, dir.path().join("sessd.db.damaged-7"));
    assert!(!path.exists());
    for (suffix, text) in files {
        let kept = dir.path().join(format!("sessd.db.damaged-7{suffix}"));
        assert_eq!(fs::read_to_string(kept).unwrap(), text);
    }
}

#[tokio::test]
async fn a_suspect_registry_is_checked_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sessd.db");
    let store = Store::open(&path).unwrap();
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6000)
                INSERT INTO projects (root) SELECT i || hex(zeroblob(2000)) FROM n";
    store.write(move |tx| Ok(tx.execute(fill, [])?)).await.unwrap();
    store.stop_writes().await.unwrap();
    drop(store);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    assert!(bytes.len() > 4_096 * 4_096, "{}", bytes.len());
    bytes[middle..middle + 4096].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    Store::open(&path).expect("damage in a large registry is not found on open");
    super::super::mark_suspect(&path);
    assert!(Store::open(&path).unwrap_err().is_damage());
}

/// Returns the names of all indexes of a registry.
fn indexes(connection: &Connection) -> Vec<String> {
    let names = "SELECT name FROM sqlite_schema WHERE type = 'index' ORDER BY name";
    let mut statement = connection.prepare(names).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[tokio::test]
async fn deferred_indexes_are_built_after_the_first_import() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("sessd.db")).unwrap();
    let before = store.read(|c| Ok(indexes(c))).await.unwrap();
    assert!(before.contains(&"list_activity".to_owned()) && before.len() < indexes(&empty()).len());
    store.build_indexes_if_large().await.unwrap();
    assert_eq!(
        store.read(|c| Ok(indexes(c))).await.unwrap(),
        before,
        "there are not many sessions"
    );
    // Both at once, as after two sweeps.
    let (one, other) = tokio::join!(store.build_indexes(), store.build_indexes());
    one.and(other).unwrap();
    assert_eq!(store.read(|c| Ok(indexes(c))).await.unwrap(), indexes(&empty()));
}

#[tokio::test]
async fn indexes_missing_after_a_crash_are_built_on_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sessd.db");
    drop(Store::open(&path).unwrap());
    let store = Store::open(&path).unwrap();
    let present = store.read(|c| Ok(indexes(c))).await.unwrap();
    assert!(present.len() < indexes(&empty()).len(), "the first import is still to come");
    let fill = |tx: &rusqlite::Transaction<'_>| {
        let home = bindings::remember_home(tx, "p", "/home", &BTreeMap::new())?;
        import::upsert(tx, &found(home, 1))
    };
    store.write(fill).await.unwrap();
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.read(|c| Ok(indexes(c))).await.unwrap(), indexes(&empty()));
    assert_eq!(store.read(sessions::count).await.unwrap(), 1);
}

/// Returns the number of read calls of this thread so far, including those made here.
fn reads() -> u64 {
    let io = fs::read_to_string("/proc/thread-self/io").unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("syscr: "));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_slow_read_does_not_take_the_memory_of_short_ones() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("sessd.db")).unwrap();
    let fill = |tx: &Transaction<'_>| {
        let home = bindings::remember_home(tx, "p", "/home", &BTreeMap::new())?;
        for number in 0..10_000 {
            import::upsert(tx, &found(home, number))?;
        }
        Ok(())
    };
    store.write(fill).await.unwrap();
    let list = |c: &Connection| {
        let before = reads();
        let request = ListRequest { limit: 500, ..ListRequest::default() };
        assert_eq!(page::list(c, &request)?.0.len(), 500);
        Ok(reads() - before)
    };
    let all = "PRAGMA integrity_check";
    store.read_slowly(|c| Ok(c.query_row(all, [], |_| Ok(()))?)).await.unwrap();
    store.read(list).await.unwrap();
    let again = store.read(list).await.unwrap();
    assert!(again < 10, "{again} reads for a page that was read before");
}
