"""Programs around the runtime: pictures come in over the network, explanations go out."""
