//! `man`: the manual pages, in roff.
//!
//! Each page has one source for each fact. The commands and options of certsyncd(8) come from [`super::Cli`], the keys of
//! certsyncd.toml(5) from [`crate::config::keys`]; only prose is written by hand, under `docs/man`.

use std::fmt::Write as _;
use std::io::{self, Write};

use clap::CommandFactory;

use crate::config::keys::{Key, TABLES, Table};

/// Which page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Page {
    /// The commands
    #[default]
    #[value(name = "certsyncd.8")]
    Commands,
    /// The configuration
    #[value(name = "certsyncd.toml.5")]
    Configuration,
}

/// Writes a page.
pub fn write(page: Page, mut to: impl Write) -> io::Result<()> {
    match page {
        Page::Commands => commands(&mut to),
        Page::Configuration => to.write_all(configuration().as_bytes()),
    }
}

/// clap's page with each command's options, then what a person has to know besides.
fn commands(to: &mut impl Write) -> io::Result<()> {
    let mut command = super::Cli::command();
    command.build();
    let page = clap_mangen::Man::new(command.clone()).section("8").manual("System administration");
    page.render_title(to)?;
    page.render_name_section(to)?;
    page.render_synopsis_section(to)?;
    page.render_description_section(to)?;
    page.render_options_section(to)?;
    to.write_all(subcommands(&command).as_bytes())?;
    to.write_all(COMMANDS.as_bytes())
}

/// Every command with its own options, on this page: nobody looks for `certsyncd-alert-test(8)`.
fn subcommands(command: &clap::Command) -> String {
    let mut text = ".SH COMMANDS\n".to_owned();
    describe(command, "", &mut text);
    text
}

fn describe(command: &clap::Command, prefix: &str, text: &mut String) {
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        let name = format!("{prefix}{}", sub.get_name());
        if sub.has_subcommands() {
            describe(sub, &format!("{name} "), text);
            continue;
        }
        let about = sub.get_long_about().or(sub.get_about()).map(ToString::to_string).unwrap_or_default();
        put(text, &format!(".TP\n\\fB{}\\fR{}\n{}\n", escape(&name), escape(&usage(sub)), escape(&about)));
        let own = sub
            .get_arguments()
            .filter(|a| !a.is_global_set() && !a.is_hide_set() && !["help", "version"].contains(&a.get_id().as_str()));
        let with_help = own.filter_map(|argument| Some((argument, argument.get_help()?.to_string())));
        put(text, ".RS\n");
        with_help
            .for_each(|(argument, help)| put(text, &format!(".TP\n\\fB{}\\fR\n{}\n", escape(&shown(argument)), escape(&help))));
        put(text, ".RE\n");
    }
}

/// The positional arguments: ` [NAMES]...`.
fn usage(command: &clap::Command) -> String {
    command.get_positionals().map(|argument| format!(" {argument}")).collect()
}

/// `--to <GENERATION>`, `NAME`.
fn shown(argument: &clap::Arg) -> String {
    if argument.is_positional() {
        return argument.to_string();
    }
    match argument.get_short() {
        Some(short) => format!("-{short}, {argument}"),
        None => argument.to_string(),
    }
}

/// The prose, then every table with its keys.
fn configuration() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!(".TH certsyncd.toml 5 \"\" \"certsyncd {version}\" \"File formats\"\n{CONFIGURATION}");
    for section in TABLES {
        table(section, &mut text);
    }
    put(&mut text, ".SH \"SEE ALSO\"\n.BR certsyncd (8)\n");
    text
}

fn table(table: &Table, text: &mut String) {
    put(text, &format!(".SH \"{}\"\n{}\n", escape(table.label).replace('"', "\\(dq"), escape(table.about)));
    for key in table.keys {
        put(text, &format!(".TP\n\\fB{}\\fR{}\n{}.\n", escape(key.name), escape(&conditions(key)), escape(&capital(key.about))));
    }
}

/// ` (default: 10; huawei-scm; secret)`.
fn conditions(key: &Key) -> String {
    let default = match key.default {
        "" => None,
        "required" => Some("required".to_owned()),
        default => Some(format!("default: {default}")),
    };
    let only = (!key.only.is_empty()).then(|| format!("with {}", key.only.join(", ")));
    let parts: Vec<String> = [default, only, key.secret.then(|| "a secret".to_owned())].into_iter().flatten().collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join("; ")) }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Text that roff shows as it is: no hyphen becomes a dash, no line a request.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for line in text.lines() {
        if !escaped.is_empty() {
            escaped.push('\n');
        }
        if line.starts_with(['.', '\'']) {
            escaped.push_str("\\&");
        }
        let line = line.replace('\\', "\\e").replace('-', "\\-").replace('…', "...").replace('`', "\\(aq").replace('~', "\\(ti");
        escaped.push_str(&line);
    }
    escaped
}

fn put(text: &mut String, more: &str) {
    // writing to a string cannot fail
    let _ = text.write_str(more);
}

const COMMANDS: &str = include_str!("../../docs/man/certsyncd.8.roff");
const CONFIGURATION: &str = include_str!("../../docs/man/certsyncd.toml.5.roff");

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn page(page: Page) -> String {
        let mut bytes = Vec::new();
        write(page, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn every_key_of_every_table_has_its_paragraph() {
        let text = page(Page::Configuration);
        for table in TABLES {
            for key in table.keys {
                assert!(text.contains(&format!("\\fB{}\\fR", escape(key.name))), "`{}` of {}", key.name, table.label);
            }
        }
    }

    #[test]
    fn every_command_has_its_paragraph() {
        let text = page(Page::Commands);
        for command in super::super::Cli::command().get_subcommands().filter(|command| !command.has_subcommands()) {
            assert!(text.contains(&format!("\\fB{}\\fR", escape(command.get_name()))), "{}", command.get_name());
        }
        assert!(text.contains("\\fBalert test\\fR"), "{text}");
    }

    #[test]
    fn text_cannot_become_a_request() {
        assert_eq!(escape(".so /etc/passwd\n'x\\n-`a`"), "\\&.so /etc/passwd\n\\&'x\\en\\-\\(aqa\\(aq");
    }
}
