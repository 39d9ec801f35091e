//! Stands in until the set-up proper is here: checks nothing, installs nothing.

use anyhow::Result;

pub(crate) fn setup() -> Result<()> {
    crate::run::say("setup: nothing is installed by this stand-in");
    Ok(())
}
