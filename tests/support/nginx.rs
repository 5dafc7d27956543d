//! The real nginx, with everything it writes in a folder of its own.

use std::net::TcpStream;
use std::path::Path;

use tempfile::TempDir;

use super::process::{Server, find};
use super::until;

pub struct Nginx {
    pub server: Server,
    folder: TempDir,
    workers: usize,
}

impl Nginx {
    /// Starts nginx with `workers` workers and the server blocks `servers`; returns when `port` answers.
    pub fn start(workers: usize, servers: &str, port: u16) -> Nginx {
        let folder = TempDir::new().expect("a folder");
        let configuration = folder.path().join("nginx.conf");
        std::fs::write(&configuration, text(folder.path(), workers, servers)).expect("nginx.conf");
        let (path, prefix) = (configuration.to_str().expect("a path"), folder.path().to_str().expect("a path"));
        let log = folder.path().join("log");
        let server = Server::start("nginx", &["-p", prefix, "-c", path, "-e", "stderr"], &log);
        let mut nginx = Nginx { server, folder, workers };
        until("nginx answers", || {
            nginx.server.assert_running();
            TcpStream::connect(("127.0.0.1", port)).is_ok() || TcpStream::connect(("::1", port)).is_ok()
        });
        nginx
    }

    /// Replaces the server blocks; a reload reads them.
    pub fn rewrite(&self, servers: &str) {
        std::fs::write(self.folder.path().join("nginx.conf"), text(self.folder.path(), self.workers, servers))
            .expect("nginx.conf");
    }

    /// `nginx …` for this instance.
    pub fn argv(&self, words: &[&str]) -> Vec<String> {
        let prefix = self.folder.path().to_str().expect("a path");
        let program = find("nginx");
        let configuration = format!("{prefix}/nginx.conf");
        let own = [program.to_str().expect("a path"), "-p", prefix, "-c", &configuration, "-e", "stderr"];
        own.iter().chain(words).map(|&word| word.to_owned()).collect()
    }

    /// What makes it read its files again.
    pub fn reload(&self) -> Vec<String> {
        self.argv(&["-s", "reload"])
    }

    /// What it logged.
    pub fn said(&self) -> String {
        self.server.said()
    }
}

fn text(folder: &Path, workers: usize, servers: &str) -> String {
    let folder = folder.display();
    // as root nginx would give its workers to another user, who may not write here
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    format!(
        "{user} daemon off; worker_processes {workers}; pid {folder}/pid; error_log stderr info;\n\
         events {{ worker_connections 512; }}\n\
         http {{\n access_log off; ssl_session_cache none;\n\
         client_body_temp_path {folder}/t; proxy_temp_path {folder}/t; fastcgi_temp_path {folder}/t; uwsgi_temp_path {folder}/t; \
         scgi_temp_path {folder}/t;\n{servers}\n}}\n"
    )
}
