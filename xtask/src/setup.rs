//! x
pub(crate) fn setup() -> anyhow::Result<()> {
    Ok(())
}
