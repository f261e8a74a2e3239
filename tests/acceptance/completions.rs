//! `completions`: the scripts are valid in their shells.

use std::process::Command;

use super::support::job::Job;

/// What bash offers for the last of the words.
fn offered(script: &str, words: &str) -> String {
    let ask = format!(
        "{script}\nCOMP_WORDS=(tokio-asyncio-bridge {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
         _tokio__asyncio__bridge tokio-asyncio-bridge \"${{COMP_WORDS[$COMP_CWORD]}}\" \"${{COMP_WORDS[$((COMP_CWORD - 1))]}}\"\n\
         echo \"${{COMPREPLY[@]}}\""
    );
    let output = Command::new("bash").args(["--norc", "-c", &ask]).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn bash_completes_commands_and_options() {
    let script = Job::new().run(&["completions", "bash"]).expect(0).stdout;
    assert_eq!(offered(&script, "res"), "resume");
    assert_eq!(offered(&script, "process --max-f"), "--max-failures");
    assert_eq!(offered(&script, "doctor --api"), "--api-base");
}

#[test]
fn zsh_and_fish_have_theirs_and_others_are_refused() {
    Job::new().run(&["completions", "zsh"]).expect(0).prints("#compdef tokio-asyncio-bridge");
    Job::new().run(&["completions", "fish"]).expect(0).prints("complete -c tokio-asyncio-bridge");
    Job::new().run(&["completions", "tcsh"]).expect(2).says("bash, elvish, fish, powershell, zsh");
}

#[test]
fn without_a_command_the_uses_and_the_demo_are_shown() {
    let done = Job::new().run::<&str>(&[]).expect(0);
    for command in ["process", "compare", "resume", "demo", "doctor"] {
        assert!(done.stdout.contains(&format!("\n  tokio-asyncio-bridge {command} ")), "{}", done.stdout);
    }
    assert_eq!(done.stderr, "");
}
