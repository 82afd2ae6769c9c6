#!/bin/sh
# Prints acme's document, and again whenever it changes, for three seconds (without -max-time: until it is stopped).
grpcurl -plaintext -max-time 3 -d @ "${TESSERA_DATA_ADDR:-127.0.0.1:7400}" tessera.v1.EntitlementService/WatchEntitlements <<'EOF'
{
  "subscribe": {"tenant_id": "acme"}
}
EOF
# The end of the time is the exit code 68, and what was asked for.
status=$?
[ $status -eq 68 ] || exit $status
