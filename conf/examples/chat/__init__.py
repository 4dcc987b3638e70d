"""A chat: a page, and a WebSocket by which everybody who has it open hears what anybody says."""
