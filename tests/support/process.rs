//! A server in the foreground, in a process group that ends with it.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

pub struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts `program` (found in the folders of system tools); what it says goes to `log`.
    pub fn start(program: &str, arguments: &[&str], log: &Path) -> Server {
        let file = std::fs::File::create(log).expect("a log");
        let child = Command::new(find(program))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("its handle"))
            .stderr(file)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("failed to start {program}: {error}"));
        Server { child, log: log.to_owned() }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails, with what the server said, when it has ended.
    pub fn assert_running(&mut self) {
        if let Some(status) = self.child.try_wait().expect("a child") {
            panic!("the server ended with {status}: {}", self.said());
        }
    }

    pub fn said(&self) -> String {
        let mut text = String::new();
        std::fs::File::open(&self.log).and_then(|mut file| file.read_to_string(&mut text)).expect("the log");
        text
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("a signal");
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("an id")).expect("an id")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = kill_process_group(self.pid(), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// A server's program; fails with words when it is not installed.
pub fn find(program: &str) -> PathBuf {
    let folders = ["/usr/local/sbin", "/usr/sbin", "/usr/bin", "/usr/local/bin"];
    let found = folders.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{program} is not installed: the tests need the real one (apt-get install {program})"))
}
