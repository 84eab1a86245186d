"""What flows through a mesh. Law: told by an Envoy's own routes and statistics, whoever configured it."""
