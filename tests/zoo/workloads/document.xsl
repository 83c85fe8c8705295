<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
  <xsl:output method="text"/>
  <xsl:key name="by" match="item" use="@group"/>
  <xsl:template match="/items">
    <xsl:for-each select="item[generate-id() = generate-id(key('by', @group)[1])]">
      <xsl:value-of select="concat(@group, ' ', count(key('by', @group)), '&#10;')"/>
    </xsl:for-each>
  </xsl:template>
</xsl:stylesheet>
