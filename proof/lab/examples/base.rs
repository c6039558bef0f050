//! Makes the base image of the lab's servers, so that no test has to.

fn main() -> Result<(), String> {
    match ebb_lab::base_image() {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("failed to {error}")),
    }
}
