//! `[[sip.account]]`: who may register, and with what secret.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::choice::{ALGORITHM, choose};
use super::{beside, parsed, value};
use crate::config::problem::{At, Problems, Span};
use crate::config::{Account, Algorithm, Secret, file};

pub(super) fn read(
    written: Vec<file::Account>,
    secrets: &mut dyn FnMut(&Path) -> io::Result<String>,
    problems: &mut Problems<'_>,
) -> Vec<Account> {
    let mut seen: BTreeMap<String, Span> = BTreeMap::new();
    let mut accounts = Vec::new();
    for account in written {
        let at = account
            .user
            .as_ref()
            .map_or(account.at.clone(), |u| u.span.clone());
        let user = account
            .user
            .clone()
            .filter(|user| named_user(user, problems));
        if let Some(user) = &user
            && let Some(first) = seen.insert(user.value.clone(), user.span.clone())
        {
            let line = problems.line(&first);
            let message = format!("the account `{}` stands in line {line} too", user.value);
            problems.add(
                &user.span,
                "sip.account.user",
                message,
                "remove one of the two",
            );
        }
        let chosen = algorithm(&account, problems);
        let secret = secret(account, &at, secrets, problems);
        if let (Some(user), Some(secret)) = (user, secret) {
            accounts.push(Account {
                user: user.value,
                algorithm: match &secret {
                    Secret::Password(_) => chosen,
                    Secret::Ha1Md5(_) => Some(Algorithm::Md5),
                    Secret::Ha1Sha256(_) => Some(Algorithm::Sha256),
                },
                secret,
            });
        }
    }
    accounts
}

fn named_user(user: &At<String>, problems: &mut Problems<'_>) -> bool {
    let bad = |c: char| c.is_whitespace() || c.is_control() || ":@<>\"".contains(c);
    let good = !user.value.is_empty() && !user.value.contains(bad);
    if !good {
        let message = format!("`{}` is not a user", user.value);
        let help = "write the part before the @, without `sip:`: user = \"1001\"";
        problems.add(&user.span, "sip.account.user", message, help);
    }
    good
}

/// What an account says of its algorithm; a hash says it itself.
fn algorithm(account: &file::Account, problems: &mut Problems<'_>) -> Option<Algorithm> {
    const KEY: &str = "sip.account.algorithm";
    let written = account.algorithm.clone()?;
    if account.ha1_md5.is_some() || account.ha1_sha256.is_some() {
        let help = "remove it: ha1_md5 and ha1_sha256 say which";
        let message = "`algorithm` is for accounts with a password";
        problems.add(&written.span, KEY, message, help);
    }
    Some(choose(
        Some(written),
        KEY,
        Algorithm::Md5,
        &ALGORITHM,
        problems,
    ))
}

/// Exactly one of `password`, `password_file`, `ha1_md5` and `ha1_sha256`.
fn secret(
    account: file::Account,
    at: &Span,
    secrets: &mut dyn FnMut(&Path) -> io::Result<String>,
    problems: &mut Problems<'_>,
) -> Option<Secret> {
    const PASSWORD: &str = "sip.account.password";
    let file::Account {
        password,
        password_file: path,
        ha1_md5,
        ha1_sha256,
        ..
    } = account;
    match (password, path, ha1_md5, ha1_sha256) {
        (None, None, None, None) => {
            let help = "add password, password_file, ha1_md5 or ha1_sha256";
            problems.add(at, "sip.account", "the account has no password", help);
            None
        }
        (Some(password), None, None, None) => {
            if password.value.is_empty() {
                let help = "write one: whoever knows the user could register";
                problems.add(&password.span, PASSWORD, "the password is empty", help);
            }
            Some(Secret::Password(password.value))
        }
        (None, Some(path), None, None) => password_file(&path, secrets, problems),
        (None, None, Some(ha1), None) => {
            let key = "sip.account.ha1_md5";
            parsed(&ha1.value, &ha1.span, key, value::ha1_md5, problems).map(Secret::Ha1Md5)
        }
        (None, None, None, Some(ha1)) => {
            let key = "sip.account.ha1_sha256";
            parsed(&ha1.value, &ha1.span, key, value::ha1, problems).map(Secret::Ha1Sha256)
        }
        (password, file, md5, sha256) => {
            let given = [
                ("password", password.is_some()),
                ("password_file", file.is_some()),
                ("ha1_md5", md5.is_some()),
                ("ha1_sha256", sha256.is_some()),
            ];
            let given = given.iter().filter(|(_, g)| *g).map(|(name, _)| *name);
            let given = given.collect::<Vec<_>>().join(" and ");
            let help = "keep one of them: it is not said which would count";
            problems.add(at, "sip.account", format!("the account has {given}"), help);
            None
        }
    }
}

fn password_file(
    path: &At<String>,
    secrets: &mut dyn FnMut(&Path) -> io::Result<String>,
    problems: &mut Problems<'_>,
) -> Option<Secret> {
    const KEY: &str = "sip.account.password_file";
    let full = beside(problems.file(), &path.value);
    match secrets(&full) {
        Ok(text) => {
            let password = text.trim_end_matches(['\r', '\n']);
            if password.is_empty() {
                let message = format!("the password in {} is empty", full.display());
                problems.add(
                    &path.span,
                    KEY,
                    message,
                    "write the password as its first line",
                );
            } else if password.contains('\n') {
                let message = format!("{} has more than one line", full.display());
                problems.add(&path.span, KEY, message, "it must hold the password alone");
            }
            Some(Secret::Password(password.to_owned()))
        }
        Err(error) => {
            let message = format!("cannot read {}: {error}", full.display());
            let help = "check the path, and that the daemon's user may read the file";
            problems.add(&path.span, KEY, message, help);
            None
        }
    }
}
