//! The real haproxy: a single process with an admin socket, or a master with its worker.

use std::net::TcpStream;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::process::Server;
use super::until;

pub struct Haproxy {
    pub server: Server,
    pub folder: TempDir,
}

impl Haproxy {
    /// One process with an admin socket.
    pub fn start(bind: &str, port: u16) -> Haproxy {
        Haproxy::with(bind, port, "", &[])
    }

    /// A master with a worker, a master socket and an admin socket.
    pub fn start_master(bind: &str, port: u16) -> Haproxy {
        Haproxy::with(bind, port, "", &["-W", "-S", "MASTER"])
    }

    /// `bind` is what comes after the address: `ssl crt …`; `global` are further lines; `MASTER` stands for the master socket's path.
    pub fn with(bind: &str, port: u16, global: &str, arguments: &[&str]) -> Haproxy {
        let folder = TempDir::new().expect("a folder");
        let configuration = folder.path().join("haproxy.cfg");
        std::fs::write(&configuration, text(folder.path(), bind, port, global)).expect("haproxy.cfg");
        let master = folder.path().join("master.sock");
        let mut words = vec!["-db", "-f", configuration.to_str().expect("a path")];
        words.retain(|&word| word != "-db" || !arguments.contains(&"-W"));
        words.extend(arguments.iter().map(|&word| if word == "MASTER" { master.to_str().expect("a path") } else { word }));
        let server = Server::start("haproxy", &words, &folder.path().join("log"));
        let mut haproxy = Haproxy { server, folder };
        until("haproxy answers", || {
            haproxy.server.assert_running();
            let ready = !arguments.contains(&"-W") || !haproxy.workers().is_empty();
            ready && TcpStream::connect(("127.0.0.1", port)).is_ok() && haproxy.admin().exists()
        });
        haproxy
    }

    /// The admin socket's path.
    pub fn admin(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    /// The master socket's path.
    pub fn master(&self) -> PathBuf {
        self.folder.path().join("master.sock")
    }

    /// Process ids of the current workers, as the master tells them; empty while it starts.
    pub fn workers(&self) -> Vec<String> {
        let answer = try_ask(&self.master(), "show proc").unwrap_or_default();
        let current = answer.split("# workers").nth(1).unwrap_or_default().split("# old").next().unwrap_or_default();
        let lines = current.lines().filter(|line| line.contains(" worker "));
        lines.map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
    }

    /// What the admin socket answers to `command`.
    pub fn ask(&self, command: &str) -> String {
        ask(&self.admin(), command)
    }
}

/// What the Runtime API at `socket` answers to `command`.
pub fn ask(socket: &Path, command: &str) -> String {
    try_ask(socket, command).expect("an answer")
}

fn try_ask(socket: &Path, command: &str) -> std::io::Result<String> {
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(1)))?;
    stream.write_all(format!("{command}\n").as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn text(folder: &Path, bind: &str, port: u16, global: &str) -> String {
    let folder = folder.display();
    format!(
        "global\n  stats socket {folder}/admin.sock mode 600 level admin\n  stats socket {folder}/user.sock mode 600 level user\n  \
         log stderr local0\n  {global}\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n  timeout http-keep-alive 30s\n\
         frontend web\n  bind 127.0.0.1:{port} {bind}\n  http-request return status 200 content-type text/plain string ok\n"
    )
}
