"""Who somebody is: keys that were given out, and tokens that an identity provider signed.

The only package that knows JSON Web Tokens.
"""
