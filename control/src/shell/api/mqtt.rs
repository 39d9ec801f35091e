//! Clients of the MQTT edge.

use axum::Json;
use axum::routing::get;

use crate::shell::api::What;
use crate::shell::api::route::{Loop, Reply, ask};
use crate::shell::api::table::{Answer, Route, VIEW, schema};

pub(super) const ROUTES: &[Route] = &[Route {
    path: "/api/v1/mqtt/clients",
    about: "MQTT clients: who they are, where they reached us, what waits for them",
    answer: Answer::Document(schema!("mqtt-clients")),
    handler: || get(clients),
    ..VIEW
}];

async fn clients(events: Loop) -> Reply {
    ask(&events, What::MqttClients).await.map(Json)
}
