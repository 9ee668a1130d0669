//! Whether the stream still answers and is still the same. A quiet stream and one that is away look alike otherwise.

use std::convert::Infallible;

use tokio::time::{sleep, timeout};

use crate::error::Ended;
use crate::options::chain;
use crate::session::Shared;

/// Asks the stream for its state again and again. Fails as soon as it does not answer, or is another one.
pub(crate) async fn watch(
    shared: &Shared<'_>,
    mut note_present: impl FnMut(),
) -> Result<Infallible, Ended> {
    let patience = shared.server.settings().engine_timeout;
    let created = shared.jetstream.cached_info().created;
    loop {
        sleep(patience / 4).await;
        let answers = async {
            let info = shared.jetstream.get_info().await;
            let info =
                info.map_err(|error| Ended::at("the stream does not answer", chain(&error)))?;
            let generation = shared.generations.current().await?;
            Ok((info.created, generation))
        };
        let (now_created, generation) = timeout(patience / 2, answers)
            .await
            .map_err(|_| Ended::at("the stream does not answer", "no answer in time"))??;
        let text = crate::generation::text(generation);
        if now_created != created
            || !shared.epoch.ends_with(&text)
            || (text.is_empty() && shared.epoch.contains('-'))
        {
            return Err(Ended::at(
                "the stream has changed",
                "it was made anew, or its end was lost",
            ));
        }
        note_present();
    }
}
