"""Who somebody is: keys that were given out, and tokens that an identity provider signed."""
