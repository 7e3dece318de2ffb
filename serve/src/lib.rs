//! What every server of Freehold shares: TLS with hot reload, health, metrics, graceful stop, logging
