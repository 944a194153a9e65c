"""Authentication: API tokens for programs, passwords for administrators, principals for requests.

The names below are those that the rest of the service uses.
"""

from kit.security._credentials import (
    ALL_SCOPES,
    DEFAULT_SCOPE,
    NEW_TOKENS_SCOPES,
    PASSWORD_THREADS,
    create_api_token,
    disable_admin,
    ensure_admin,
    ensure_api_token,
    forget_known_tokens,
    generate_password,
    hash_password,
    normalise_username,
    revoke_api_token,
    set_admin_password,
    verify_password,
)
from kit.security._principals import (
    ANONYMOUS_USERS,
    ANYONE,
    GUARDS,
    PROGRAMS,
    USERS,
    WEBSOCKET_PROTOCOL,
    Kind,
    Principal,
    PrincipalProvider,
    RateLimit,
    Serves,
    asks_who_calls,
    bearer_token,
    limit_address,
    register_principal_provider,
    require_principal,
    routes_and_callers,
    serve_anyone,
    serves,
)
