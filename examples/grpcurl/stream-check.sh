#!/bin/sh
# One frame of two questions; every frame is answered in order.
exec grpcurl -plaintext -d @ "${TESSERA_DATA_ADDR:-127.0.0.1:7400}" tessera.v1.EntitlementService/StreamCheckEntitlement <<'EOF'
{
  "id": 1,
  "checks": [
    {"tenant_id": "acme", "service": "reporting", "feature": "exports"},
    {"tenant_id": "corner-shop", "service": "entity-management", "feature": "team-management"}
  ]
}
EOF
