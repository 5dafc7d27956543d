//! Any text as the configuration: no panic; what is accepted is accepted again as it is printed, what is refused can be shown.
#![no_main]

use std::path::Path;

use certsyncd::config::parse;

libfuzzer_sys::fuzz_target!(|text: &str| {
    match parse(text, Path::new("config.toml")) {
        Ok(settings) => {
            let printed = settings.render();
            if let Err(refused) = parse(&printed, Path::new("config.toml")) {
                panic!("{}\n{printed}", refused.render(false));
            }
        }
        Err(refused) => {
            assert!(!refused.problems.is_empty() && !refused.render(false).is_empty());
            for problem in &refused.problems {
                let span = problem.span.clone().unwrap_or(0..0);
                assert!(span.start <= span.end && span.end <= refused.text.len());
                assert!(!problem.message.chars().any(char::is_control));
            }
        }
    }
});
