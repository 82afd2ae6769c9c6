#!/bin/sh
# What acme is.
exec grpcurl -plaintext -d @ "${TESSERA_CONTROL_ADDR:-127.0.0.1:7401}" tessera.v1.TenantService/GetTenant <<'EOF'
{
  "tenant_id": "acme"
}
EOF
