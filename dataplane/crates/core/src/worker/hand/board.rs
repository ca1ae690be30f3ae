//! The file in which the processes of one model version say which calls Python has in its hand, so that the living can
//! read what a dead one was doing.
//!
//! Each process writes its own slot only, with one system call, and holds a lock on it while it lives. POSIX locks, as
//! Linux lets go of them before it closes a dying process's sockets: when the access service sends a lost call to
//! another process, that one already sees the slot unlocked. A forked child does not inherit them either.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{self, c_short};
use rustc_hash::FxHashMap;

use super::Verdict;

/// At the file's begin, before how many calls a slot holds, how often a slot was taken, and how many ns the calls of a
/// dead process are remembered. `dl_inference/local/hands.py` reads this, too.
const MAGIC: u64 = u64::from_le_bytes(*b"dlhands1");
const HEADER: usize = 4;
const STARTS: u64 = 16;

/// A slot's words before the calls: process id, when the calls were taken (ns since 1970), how many, is it a suspect.
const HEAD: usize = 4;
/// Answered suspects that a slot remembers: pairs of fingerprint and time. Of more, one is run alone once more.
const CLEARED: usize = 128;

// Locks lie beyond what is ever written: of slots, of who takes a slot, of suspects by their fingerprints.
const SLOT_LOCKS: i64 = 1 << 40;
const START_LOCK: i64 = 1 << 41;
const SUSPECT_LOCKS: i64 = 1 << 62;

/// A start holds its lock for microseconds; only a stopped process keeps it longer.
const START_LIMIT: Duration = Duration::from_secs(5);

/// One process's end of the file.
#[derive(Debug)]
pub struct Board {
    file: File,
    /// Calls that a slot holds.
    capacity: usize,
    /// Its own.
    slot: usize,
    starts: u64,
    /// Slots of other processes that lived at the last look.
    alive: Vec<usize>,
    /// Where the next answered suspect is written.
    next_cleared: usize,
}

// === impl Board ===

impl Board {
    /// Open the file, or make it, and take a slot: one whose process is gone and whose calls nobody has to know any more.
    ///
    /// `keep_ns`: how long the calls of a dead process are remembered.
    ///
    /// # Errors
    /// The system's; or the file is another one, or has slots of another size.
    pub fn open(path: &Path, capacity: usize, keep_ns: u64, now: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let mut board = Self {
            file,
            capacity,
            slot: 0,
            starts: 0,
            alive: Vec::new(),
            next_cleared: 0,
        };
        let limit = Instant::now() + START_LIMIT;
        while !lock(&board.file, START_LOCK)? {
            if Instant::now() >= limit {
                let text = format!("another process holds its lock for {START_LIMIT:?}");
                return Err(io::Error::other(text));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let taken = board.take_slot(keep_ns, now);
        unlock(&board.file, START_LOCK)?;
        taken.map(|()| board)
    }

    fn take_slot(&mut self, keep_ns: u64, now: u64) -> io::Result<()> {
        let capacity = self.capacity as u64;
        if self.file.metadata()?.len() == 0 {
            self.write(0, &[MAGIC, capacity, 0, keep_ns])?;
        }
        let mut header = [0; HEADER];
        self.read(0, &mut header)?;
        if header[..2] != [MAGIC, capacity] {
            return Err(io::Error::other("it was made by another version"));
        }
        let mut words = vec![0; self.slot_words()];
        for slot in 0.. {
            // Not by taking the lock: who looks in this moment would take its dead process for alive.
            if is_locked(&self.file, slot_lock(slot))? {
                continue;
            }
            let is_new = slot >= self.slots()?;
            if is_new {
                words.fill(0);
            } else {
                self.read(self.offset(slot), &mut words)?;
            }
            let [_, taken_at, count, _] = words[..HEAD] else {
                break;
            };
            if count > 0 && taken_at.saturating_add(keep_ns) > now {
                continue;
            }
            words[..HEAD].fill(0);
            words[0] = u64::from(std::process::id());
            lock(&self.file, slot_lock(slot))?;
            self.write(self.offset(slot), &words)?;
            self.slot = slot;
            break;
        }
        self.write(STARTS, &[header[2].wrapping_add(1)])
    }

    /// Whether a process has died since the last look, so that the verdicts may be others. What every batch pays: a
    /// read, and a question for the lock of each other process.
    pub fn look(&mut self) -> io::Result<bool> {
        let mut starts = [0];
        self.read(STARTS, &mut starts)?;
        if starts[0] != self.starts {
            // The dead as well: what they had has not been seen yet.
            self.alive = (0..self.slots()?)
                .filter(|slot| *slot != self.slot)
                .collect();
        }
        let before = self.alive.len();
        let file = &self.file;
        let mut failed = Ok(());
        self.alive.retain(|slot| {
            is_locked(file, slot_lock(*slot)).unwrap_or_else(|error| {
                failed = Err(error);
                true
            })
        });
        failed?;
        self.starts = starts[0];
        Ok(self.alive.len() != before)
    }

    /// What is known of the calls that dead processes had in their hands; [`look`](Self::look) says who is dead.
    pub fn verdicts(&self, keep_ns: u64, now: u64) -> io::Result<FxHashMap<u64, Verdict>> {
        let mut verdicts = FxHashMap::default();
        let mut cleared: FxHashMap<u64, u64> = FxHashMap::default();
        let mut words = vec![0; self.slot_words()];
        for slot in 0..self.slots()? {
            self.read(self.offset(slot), &mut words)?;
            let (head, rest) = words.split_at(HEAD);
            let (calls, ring) = rest.split_at(self.capacity);
            for pair in ring.chunks_exact(2) {
                let at = cleared.entry(pair[0]).or_default();
                *at = pair[1].max(*at);
            }
            let (taken_at, until) = (head[1], head[1].saturating_add(keep_ns));
            if slot == self.slot || self.alive.contains(&slot) || until <= now {
                continue;
            }
            let verdict = if head[3] == 1 {
                Verdict::Poison { until }
            } else {
                Verdict::Suspect { taken_at }
            };
            for call in &calls[..calls.len().min(head[2] as usize)] {
                let known = verdicts.entry(*call).or_insert(verdict);
                *known = verdict.max(*known);
            }
        }
        verdicts.retain(|call, verdict| match verdict {
            Verdict::Suspect { taken_at } => cleared.get(call).is_none_or(|at| at < taken_at),
            Verdict::Poison { .. } => true,
        });
        Ok(verdicts)
    }

    /// Write which calls Python has in its hand; of more than fit the first.
    pub fn write_hand(&self, calls: &[u64], is_suspect: bool, now: u64) -> io::Result<()> {
        let calls = &calls[..calls.len().min(self.capacity)];
        let mut words = Vec::with_capacity(HEAD + calls.len());
        words.extend([now, calls.len() as u64, u64::from(is_suspect)]);
        words.extend_from_slice(calls);
        self.write(self.offset(self.slot) + 8, &words)
    }

    /// Let every process know that a suspect was answered.
    pub fn clear(&mut self, call: u64, now: u64) -> io::Result<()> {
        let at = HEAD + self.capacity + 2 * self.next_cleared;
        self.next_cleared = (self.next_cleared + 1) % CLEARED;
        self.write(self.offset(self.slot) + 8 * at as u64, &[call, now])
    }

    /// Become the only process that runs a suspect. False: another one is.
    pub fn lock_suspect(&self, call: u64) -> io::Result<bool> {
        lock(&self.file, suspect_lock(call))
    }

    pub fn unlock_suspect(&self, call: u64) -> io::Result<()> {
        unlock(&self.file, suspect_lock(call))
    }

    fn slots(&self) -> io::Result<usize> {
        let words = self.file.metadata()?.len() as usize / 8;
        Ok(words.saturating_sub(HEADER) / self.slot_words())
    }

    fn slot_words(&self) -> usize {
        HEAD + self.capacity + 2 * CLEARED
    }

    fn offset(&self, slot: usize) -> u64 {
        8 * (HEADER + slot * self.slot_words()) as u64
    }

    fn read(&self, at: u64, words: &mut [u64]) -> io::Result<()> {
        let mut bytes = vec![0; 8 * words.len()];
        self.file.read_exact_at(&mut bytes, at)?;
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Ok(())
    }

    fn write(&self, at: u64, words: &[u64]) -> io::Result<()> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.file.write_all_at(&bytes, at)
    }
}

fn slot_lock(slot: usize) -> i64 {
    SLOT_LOCKS + slot as i64
}

fn suspect_lock(call: u64) -> i64 {
    SUSPECT_LOCKS | (call >> 2) as i64
}

/// Whether the lock could be had.
fn lock(file: &File, at: i64) -> io::Result<bool> {
    match set(file, at, libc::F_WRLCK) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        // POSIX leaves it to the system which of the two it says.
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => Ok(false),
        result => result.map(|()| true),
    }
}

fn unlock(file: &File, at: i64) -> io::Result<()> {
    set(file, at, libc::F_UNLCK)
}

fn set(file: &File, at: i64, kind: libc::c_int) -> io::Result<()> {
    let region = region(at, kind);
    // Tests play several processes in one, which have each a lock of its own by their open files only.
    let set = if cfg!(test) {
        FcntlArg::F_OFD_SETLK(&region)
    } else {
        FcntlArg::F_SETLK(&region)
    };
    fcntl(file, set)?;
    Ok(())
}

/// Whether another process has the lock.
fn is_locked(file: &File, at: i64) -> io::Result<bool> {
    let mut region = region(at, libc::F_WRLCK);
    let get = if cfg!(test) {
        FcntlArg::F_OFD_GETLK(&mut region)
    } else {
        FcntlArg::F_GETLK(&mut region)
    };
    fcntl(file, get)?;
    Ok(region.l_type != libc::F_UNLCK as c_short)
}

fn region(at: i64, kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as c_short,
        l_whence: libc::SEEK_SET as c_short,
        l_start: at,
        l_len: 1,
        l_pid: 0,
    }
}
